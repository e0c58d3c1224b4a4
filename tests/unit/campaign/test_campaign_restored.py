# "We restored the backup of last night, and everybody got the newsletter a second time."

from __future__ import annotations

import sqlite3
from pathlib import Path

import pyrage
import pytest
from campaign_place import Clock, settings, subscribe

from todoku.campaign import campaigns, lists, tokens
from todoku.campaign.errors import NotSoError
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.host import backup, restore, restored_campaigns
from todoku.host.backup import BackupError, Key
from todoku.host.client import Host
from todoku.store import campaign as store

FOLDER = "var/lib/todoku/campaign"


def machine(root: Path) -> Opened:
    """With three campaigns: one is being sent, one is a draft, and the answers to a form."""
    folder = root / FOLDER
    folder.mkdir(parents=True)
    (root / "etc/todoku").mkdir(parents=True)
    place = store.place(str(folder / "campaign.sqlite3"))
    store.migrate(place)
    tokens.make(folder / "key")
    opened = Opened(store.open(place), tokens.read(folder / "key"), settings(), Clock())
    number = lists.create(opened, "news", "News", "News, monthly", double=True, is_open=True)
    subscribe(opened, number, "alice@mailbox.example")
    for name in ("running", "draft"):
        campaigns.create(opened, name, "news", Source("Hi", "x"))
    campaigns.start(opened, "running")
    with opened.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO campaign (name, list, kind, segment, subject, text, state, created, starts) "
            "VALUES ('news:confirm', 1, 'confirmation', '', 'x', 'x', 'started', 0, 0)"
        )
    return opened


def saved_and_unpacked(root: Path, file: Path) -> tuple[Host, restore.Unpacked]:
    identity = pyrage.x25519.Identity.generate()
    key = Key(recipients=(str(identity.to_public()),))
    backup.write(Host(root), file, key, hostname="mx.hoge.example", schema="", mail=False)
    return Host(root), restore.unpack(Host(root), file, identities=(str(identity),))


def test_what_was_being_sent_when_the_backup_was_made_comes_back_paused_and_says_why(tmp_path: Path) -> None:
    opened = machine(tmp_path / "root")
    host, unpacked = saved_and_unpacked(tmp_path / "root", tmp_path / "backup")
    campaigns.pause(opened, "running")
    opened.engine.dispose()
    assert restored_campaigns.hold(host, "2026-11-24T03:00:00+00:00") == ("running",)
    restore.put_in_place(host, unpacked)
    states = {each["name"]: (each["state"], each["words"]) for each in campaigns.overview(opened)}
    assert states["running"] == ("paused", "restored from a backup of 2026-11-24T03:00:00+00:00")
    assert states["draft"] == ("draft", None)
    with opened.read() as connection:
        assert campaigns.find(connection, "news:confirm").state == "started"  # answers to forms still go
    with pytest.raises(NotSoError, match="a second time, and who unsubscribed"):
        campaigns.start(opened, "running")
    campaigns.start(opened, "running", after_restore=True)
    campaigns.pause(opened, "running")
    campaigns.start(opened, "running")
    assert campaigns.overview(opened)[1]["words"] is None
    opened.engine.dispose()


def test_a_backup_whose_database_is_broken_changes_nothing(tmp_path: Path) -> None:
    opened = machine(tmp_path / "root")
    host, _ = saved_and_unpacked(tmp_path / "root", tmp_path / "backup")
    opened.engine.dispose()
    unpacked = tmp_path / "root/var/lib/todoku/.restore/new/campaign/campaign.sqlite3"
    unpacked.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(BackupError, match="bulk mail in the backup cannot be used"):
        restored_campaigns.hold(host, "then")
    unpacked.unlink()
    assert restored_campaigns.hold(host, "then") == ()
    sqlite3.connect(unpacked).close()  # of a version that had no campaigns
    assert restored_campaigns.hold(host, "then") == ()
