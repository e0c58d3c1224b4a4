# Promise: the plan shows what would change, never a secret, and the version before is kept.

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from todoku.host import files
from todoku.host.client import Host
from todoku.host.files import Directory, File, FileSeen
from todoku.host.rendered import RenderedFile
from todoku.plan.resource import Action, LookFailed

ME = pwd.getpwuid(os.geteuid()).pw_name
MINE = grp.getgrgid(os.getegid()).gr_name


def wanted(content: str, *, secret: bool = False, mode: int = 0o644) -> File:
    rendered = RenderedFile("/etc/x.conf", content, mode=mode, owner=ME, group=MINE, secret=secret)
    return File(file=rendered, reason="a test")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "etc").mkdir()
    # Folders belong to root; whoever runs the tests may not be.
    make = Host.make_directory
    monkeypatch.setattr(
        Host, "make_directory", lambda self, path, mode=0o755: make(self, path, mode, ME, MINE)
    )
    return Host(tmp_path)


def apply(file: File, host: Host) -> None:
    change = file.differ(file.look(host))
    assert change is not None
    file.change(change, host)
    assert file.differ(file.look(host)) is None


def test_a_new_file_is_shown_line_by_line(host: Host) -> None:
    change = wanted("a\nb\n").differ(FileSeen())
    assert change is not None
    assert (change.action, change.detail) == (Action.CREATE, "+a\n+b")


def test_a_long_new_file_is_counted(host: Host) -> None:
    change = wanted("a\n" * 60).differ(FileSeen())
    assert change is not None
    assert change.detail == "a new file of 60 lines"


def test_a_changed_file_is_shown_as_a_diff(host: Host) -> None:
    apply(wanted("a\nb\n"), host)
    change = wanted("a\nc\n").differ(wanted("").look(host))
    assert change is not None
    assert change.action is Action.UPDATE
    assert "-b\n+c" in change.detail


def test_a_secret_is_never_shown(host: Host) -> None:
    new = wanted("s3cret\n", secret=True, mode=0o600).differ(FileSeen())
    apply(wanted("0ther\n", secret=True, mode=0o600), host)
    changed = wanted("s3cret\n", secret=True, mode=0o600).differ(wanted("").look(host))
    for shown in (repr(new), repr(changed), repr(wanted("s3cret\n", secret=True))):
        assert "s3cret" not in shown
        assert "0ther" not in shown
    assert changed is not None


def test_a_wrong_mode_alone_is_put_right(host: Host) -> None:
    apply(wanted("a\n", mode=0o600), host)
    change = wanted("a\n", mode=0o640).differ(wanted("").look(host))
    assert change is not None
    assert "0600" in change.summary
    assert "0640" in change.summary
    apply(wanted("a\n", mode=0o640), host)


def test_the_version_before_is_kept(host: Host, tmp_path: Path) -> None:
    apply(wanted("old\n", mode=0o600), host)
    apply(wanted("new\n", mode=0o600), host)
    kept = tmp_path / files.PREVIOUS.lstrip("/") / "etc/x.conf"
    assert kept.read_text() == "old\n"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_no_copy_of_a_secret_is_kept(host: Host, tmp_path: Path) -> None:
    apply(wanted("old\n", secret=True), host)
    apply(wanted("new\n", secret=True), host)
    assert not (tmp_path / files.PREVIOUS.lstrip("/")).exists()


def test_a_folder_in_the_place_of_a_file_is_said_not_removed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc/x.conf").mkdir()
    with pytest.raises(LookFailed, match="move it away"):
        wanted("a").look(host)


def test_an_owner_who_is_still_to_be_made_is_no_error_while_planning(host: Host) -> None:
    apply(wanted("a\n"), host)
    later = File(file=RenderedFile("/etc/x.conf", "a\n", owner="not-yet", group=MINE), reason="a test")
    change = later.differ(later.look(host))
    assert change is not None
    assert "not-yet" in change.summary


def test_a_folder_is_made_and_its_mode_kept_right(host: Host, tmp_path: Path) -> None:
    folder = Directory(path="/var/lib/x", mode=0o700, owner=ME, group=MINE, reason="a test")
    change = folder.differ(folder.look(host))
    assert change is not None
    assert change.action is Action.CREATE
    Host.make_directory(host, "/var/lib/x", 0o700)
    assert folder.differ(folder.look(host)) is None
    (tmp_path / "var/lib/x").chmod(0o755)
    change = folder.differ(folder.look(host))
    assert change is not None
    assert "0755" in change.summary
