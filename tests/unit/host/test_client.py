# Promise: a reader finds the old file or the new one, whole, and a failure leaves the old one alone.

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

import pytest

from todoku.host.client import Host, HostError
from todoku.plan.resource import ChangeFailed, LookFailed

ME = pwd.getpwuid(os.geteuid()).pw_name
MINE = grp.getgrgid(os.getegid()).gr_name


def replace(host: Host, path: str, content: bytes, mode: int = 0o644) -> None:
    host.replace(path, content, mode=mode, owner=ME, group=MINE)


def test_a_file_is_put_in_place_with_its_mode(tmp_path: Path) -> None:
    replace(Host(tmp_path), "/main.cf", b"new", mode=0o600)
    assert (tmp_path / "main.cf").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "main.cf").stat().st_mode) == 0o600


def test_a_reader_who_has_the_old_file_open_keeps_it_whole(tmp_path: Path) -> None:
    (tmp_path / "map").write_bytes(b"old and long")
    with (tmp_path / "map").open("rb") as reader:
        replace(Host(tmp_path), "/map", b"new")
        assert reader.read() == b"old and long"


@pytest.mark.parametrize("step", ["fsync", "fchown", "fchmod"])
def test_a_full_disk_changes_nothing_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (tmp_path / "main.cf").write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match=r"/main\.cf") as failure:
        replace(Host(tmp_path), "/main.cf", b"new")
    assert failure.value.errno == errno.ENOSPC
    assert (tmp_path / "main.cf").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["main.cf"]


def test_what_a_killed_run_left_behind_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".main.cf.todoku").write_bytes(b"half")
    replace(Host(tmp_path), "/main.cf", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["main.cf"]


def test_a_secret_is_never_readable_by_others_not_even_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    chown = os.fchown

    def spy(descriptor: int, uid: int, gid: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        chown(descriptor, uid, gid)

    monkeypatch.setattr(os, "fchown", spy)
    old = os.umask(0)
    try:
        replace(Host(tmp_path), "/secret", b"password", mode=0o600)
    finally:
        os.umask(old)
    assert modes == [0o600]


def test_an_owner_who_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no user nobody-here"):
        Host(tmp_path).replace("/x", b"", owner="nobody-here", group=MINE)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.read("/no/such/file") is None
    assert host.stat("/no/such/file") is None
    assert host.entries("/no/such/folder") == ()
    host.remove("/no/such/file")


def test_a_program_that_fails_says_its_code_and_its_own_words() -> None:
    with pytest.raises(HostError, match=r"failed with code 2:\n.*no-such-file"):
        Host().run(["ls", "/no-such-file"])


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(HostError, match="no-such-program could not be started"):
        Host().run(["no-such-program"])


def test_a_program_that_hangs_is_ended_together_with_its_children() -> None:
    with pytest.raises(HostError, match=r"did not end within 0\.2 s"):
        Host().run(["sh", "-c", "sleep 3017 & wait"], timeout=0.2)
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert b"sleep\x003017\x00" not in running


def test_a_failure_counts_as_a_failed_look_and_as_a_failed_change() -> None:
    assert issubclass(HostError, LookFailed)
    assert issubclass(HostError, ChangeFailed)


def test_programs_do_not_see_the_relay_password_in_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TODOKU_RELAY_PASSWORD", "s3cret")
    assert "s3cret" not in Host().run(["env"]).stdout


def test_output_is_not_shown_by_accident() -> None:
    assert "s3cret" not in repr(Host().run(["echo", "-n", "s3cret"])).replace("'s3cret'", "")
