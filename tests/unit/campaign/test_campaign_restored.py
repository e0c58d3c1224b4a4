# "We restored the backup of last night, and everybody got the newsletter a second time."

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pyrage
import pytest
from campaign_place import Clock, settings, subscribe
from sink import Sink
from test_campaign_sending import people, send, state

from todoku.campaign import campaigns, forms, health, lists, persons, rolled_back, tokens
from todoku.campaign.errors import NotSoError
from todoku.campaign.forms import Asked
from todoku.campaign.opened import Opened
from todoku.campaign.taken_over import TakenOver
from todoku.campaign.template import Source
from todoku.delivery.entries import Told
from todoku.host.backup import backup, restore, restored_campaigns
from todoku.host.backup.backup import BackupError, Key
from todoku.host.backup.restored_campaigns import Held
from todoku.host.client import Host
from todoku.store import campaign as store
from todoku.store import campaign_schema as schema

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
    assert restored_campaigns.hold(host, "2026-11-24T03:00:00+00:00").paused == ("running",)
    restore.put_in_place(host, unpacked)
    states = {each["name"]: (each["state"], each["words"]) for each in campaigns.overview(opened)}
    assert states["running"] == ("paused", "restored from a backup of 2026-11-24T03:00:00+00:00")
    assert states["draft"] == ("draft", "restored from a backup of 2026-11-24T03:00:00+00:00")
    with pytest.raises(NotSoError, match="may have been sent since then: of the 1 who"):
        campaigns.start(opened, "draft")
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
    assert restored_campaigns.hold(host, "then") == Held()
    sqlite3.connect(unpacked).close()  # of a version that had no campaigns
    assert restored_campaigns.hold(host, "then") == Held()


def test_what_is_in_place_knows_is_taken_over_and_nobody_gets_it_twice(tmp_path: Path) -> None:
    opened = machine(tmp_path / "root")
    clock = cast(Clock, opened.clock)
    for number in range(6):
        subscribe(opened, 1, f"p{number}@mailbox.example")
    campaigns.create(opened, "spring", "news", Source("Hi", "x"))
    campaigns.start(opened, "spring")
    persons.forget(opened, "before@mailbox.example")
    host, unpacked = saved_and_unpacked(tmp_path / "root", tmp_path / "backup")

    clock.now += 3600
    settle(opened, "spring", "p0", "sent")
    settle(opened, "spring", "p1", "failed", 550)
    with opened.write() as connection:
        person = lists.subscriber(connection, "p2@mailbox.example")
        assert person is not None
        lists.unsubscribe(connection, 1, person.id, "one click, from 192.0.2.1", clock.now)
    health.hear(opened, [Told(clock.now, "", "p3@mailbox.example", "COMPLAINT", "", "", "", "")])
    persons.forget(opened, "p4@mailbox.example")
    persons.forget(opened, "never@mailbox.example")
    campaigns.cancel(opened, "running")
    opened.engine.dispose()

    held = restored_campaigns.hold(host, "then")
    assert held == Held(("spring",), TakenOver(settled=3, unsubscribed=1, forgotten=1))
    restore.put_in_place(host, unpacked)
    states = {each["name"]: each["state"] for each in campaigns.overview(opened)}
    assert (states["spring"], states["running"]) == ("paused", "cancelled")
    campaigns.start(opened, "spring", after_restore=True)
    send(opened, sink := Sink(), tmp_path)
    assert sorted(sink.counts) == ["alice@mailbox.example", "p5@mailbox.example"]
    kept = persons.export(opened, "p2@mailbox.example")
    assert kept["lists"][0]["state"] == "unsubscribed"
    assert kept["consent"][-1]["source"] == "one click, from 192.0.2.1"
    assert persons.export(opened, "p3@mailbox.example")["blocked"] == "complained"
    octets = (tmp_path / "root" / FOLDER / "campaign.sqlite3").read_bytes()
    assert b"p4@mailbox.example" not in octets
    with opened.read() as connection:
        for name in ("before", "p4", "never"):
            assert persons.is_forgotten(opened, connection, f"{name}@mailbox.example")
    opened.engine.dispose()


def settle(opened: Opened, campaign: str, name: str, state: str, code: int = 250) -> None:
    with opened.write() as connection:
        person = lists.subscriber(connection, f"{name}@mailbox.example")
        assert person is not None
        got, of = schema.recipient, campaigns.find(connection, campaign).id
        here = (got.c.campaign == of) & (got.c.subscriber == person.id)
        connection.execute(got.update().where(here).values(state=state, settled=opened.clock(), code=code))


def test_nothing_is_taken_over_from_another_machines_lists_or_a_broken_file(tmp_path: Path) -> None:
    opened = machine(tmp_path / "root")
    host, _ = saved_and_unpacked(tmp_path / "root", tmp_path / "backup")
    opened.engine.dispose()
    here = tmp_path / "root" / FOLDER
    (here / "campaign.sqlite3").write_bytes(b"SQLite format 3\0" + b"x" * 5000)  # why it is restored
    assert restored_campaigns.hold(host, "then") == Held(("running",))
    (here / "campaign.sqlite3").unlink()
    assert restored_campaigns.hold(host, "then") == Held()  # they are paused already
    (here / "campaign.sqlite3").symlink_to("/etc/passwd")
    assert restored_campaigns.hold(host, "then") == Held()
    (here / "campaign.sqlite3").unlink()
    shutil.rmtree(here)
    other = machine(tmp_path / "other")
    other.engine.dispose()
    shutil.copytree(tmp_path / "other" / FOLDER, here)
    assert restored_campaigns.hold(host, "then") == Held()  # another key
    unpacked = tmp_path / "root/var/lib/todoku/.restore/new/campaign"
    shutil.copy(unpacked / "key", here / "key")
    with sqlite3.connect(here / "campaign.sqlite3") as database:
        database.execute("UPDATE list SET created = created + 1")
    assert restored_campaigns.hold(host, "then") == Held()  # other lists


# -- a file, a dump or a snapshot that somebody has put back by other means


def test_an_older_copy_of_the_database_stops_what_is_being_sent(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    here = replace(opened, state=tmp_path / "beside")
    (tmp_path / "beside").mkdir()
    people(here, news, 9)
    for name in ("spring", "draft"):
        campaigns.create(here, name, "news", Source("Hi", "x"))
    campaigns.start(here, "spring")
    send(here, Sink(), tmp_path, per_hour=3)
    copy = sqlite3.connect(":memory:")
    with closing(sqlite3.connect(tmp_path / "campaign.sqlite3")) as database:
        database.backup(copy)
    clock.now += 3700
    send(here, Sink(), tmp_path, per_hour=3)
    send(here, Sink(), tmp_path, per_hour=3)  # as it was: nothing is stopped
    assert state(here)[0] == "started"

    with closing(sqlite3.connect(tmp_path / "campaign.sqlite3")) as database:
        copy.backup(database)
    send(here, sink := Sink(), tmp_path)
    assert sink.taken == []
    assert state(here)[0] == "stopped" and "restored from a backup of before 2026-" in state(here)[1]
    with pytest.raises(NotSoError, match="may have been sent since"):
        campaigns.start(here, "draft")
    with pytest.raises(NotSoError, match="of the 6 who are left"):
        campaigns.start(here, "spring")
    campaigns.start(here, "spring", after_restore=True)
    assert state(here) == ("started", "")
    send(here, sink, tmp_path)
    assert len(sink.counts) == 6  # whoever looked has decided so


def test_answers_to_forms_are_no_sign_of_an_older_copy(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    here = replace(opened, state=tmp_path)
    people(here, news, 1)
    campaigns.create(here, "spring", "news", Source("Hi", "x"))
    campaigns.start(here, "spring")
    send(here, Sink(), tmp_path)
    for _ in range(2):
        clock.now += 3700
        with here.read() as connection:
            list_ = lists.find(connection, "news")
        forms.ask(here, list_, Asked("bob@mailbox.example", "ja", "192.0.2.1", "/subscribe/news"))
        send(here, Sink(), tmp_path)
    campaigns.create(here, "summer", "news", Source("Hi", "x"))
    campaigns.start(here, "summer", clock.now + 50)
    forms.ask(here, list_, Asked("carol@mailbox.example", "ja", "192.0.2.1", "/subscribe/news"))
    send(here, Sink(), tmp_path)
    assert state(here, "summer")[0] == "started"
    (tmp_path / rolled_back.NAME).write_text("nonsense")
    send(here, Sink(), tmp_path)
    assert state(here, "summer")[0] == "started"
