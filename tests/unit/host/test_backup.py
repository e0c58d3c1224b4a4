"""A backup is whole or is none; a restore gives back exactly what was saved, or changes nothing. Who made the archive
is not trusted."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from todoku.host.backup import backup, restore
from todoku.host.backup.backup import BackupError, Key, Manifest
from todoku.host.client import Host

IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())
STATE, ETC = "var/lib/todoku", "etc/todoku"


def machine(root: Path, word: str) -> Host:
    """A machine whose every file says `word`."""
    for name, mode in (
        (f"{ETC}/todoku.toml", 0o644),
        (f"{ETC}/secrets/relay", 0o600),
        (f"{STATE}/gate/book", 0o640),
        (f"{STATE}/mail/alice/new/1", 0o600),
        (f"{STATE}/directory/dovecot.passwd", 0o640),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(word)
        path.chmod(mode)
    (root / ETC / "secrets").chmod(0o700)
    with sqlite3.connect(root / STATE / "todoku.sqlite3") as database:
        database.execute("CREATE TABLE IF NOT EXISTS word (word TEXT)")
        database.execute("DELETE FROM word")
        database.execute("INSERT INTO word VALUES (?)", (word,))
    database.close()
    return Host(root)


def words(root: Path) -> set[str]:
    """What the files of a machine say, but for mail and what is exported."""
    found = {
        (root / name).read_text()
        for name in (f"{ETC}/todoku.toml", f"{ETC}/secrets/relay", f"{STATE}/gate/book")
    }
    database = sqlite3.connect(root / STATE / "todoku.sqlite3")
    found |= {word for (word,) in database.execute("SELECT word FROM word")}
    database.close()
    return found


def save(host: Host, file: Path, *, mail: bool = False) -> Manifest:
    return backup.write(
        host, file, Key(recipients=(RECIPIENT,)), hostname="mx.hoge.example", schema="", mail=mail
    )


def unpack(host: Host, file: Path) -> restore.Unpacked:
    return restore.unpack(host, file, identities=(str(IDENTITY),))


def test_what_was_saved_comes_back_on_an_empty_machine(tmp_path: Path) -> None:
    save(machine(tmp_path / "old", "saved"), tmp_path / "backup", mail=True)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert b"saved" not in (tmp_path / "backup").read_bytes()
    new = Host(tmp_path / "new")
    restore.put_in_place(new, unpack(new, tmp_path / "backup"))
    assert words(tmp_path / "new") == {"saved"}
    assert (tmp_path / "new" / STATE / "mail/alice/new/1").read_text() == "saved"
    assert (tmp_path / "new" / ETC / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / ETC / "secrets/relay").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "new" / STATE / "directory").exists()  # `todoku apply` exports it anew
    assert not (tmp_path / "new" / STATE / ".restore").exists()


def test_copies_on_their_way_are_not_sent_a_second_time_by_a_restore(tmp_path: Path) -> None:
    root = tmp_path / "machine"
    host = machine(root, "old")
    waiting, kept = root / STATE / "gate/protect/outgoing/1/0.eml", root / STATE / "protect/objects/1"
    for path in (waiting, kept):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    files = save(host, tmp_path / "backup").files
    assert f"{STATE}/protect/objects/1" in files
    assert not [name for name in files if "outgoing" in name]


def test_mail_that_is_not_in_the_backup_stays_as_it_is(tmp_path: Path) -> None:
    host = machine(tmp_path / "one", "before")
    save(host, tmp_path / "backup")
    machine(tmp_path / "one", "after")
    restore.put_in_place(host, unpack(host, tmp_path / "backup"))
    assert words(tmp_path / "one") == {"before"}
    assert (tmp_path / "one" / STATE / "mail/alice/new/1").read_text() == "after"
    kept = tmp_path / "one" / ETC / "before-restore"
    assert (kept / "todoku.toml").read_text() == "after"


def test_a_passphrase_locks_it_too_and_another_one_does_not_open_it(tmp_path: Path) -> None:
    host = machine(tmp_path / "one", "saved")
    key = Key(passphrase="a long enough passphrase")
    assert "enough" not in repr(key)
    backup.write(host, tmp_path / "backup", key, hostname="mx", schema="", mail=False)
    with pytest.raises(BackupError, match="another one, or the"):
        restore.unpack(host, tmp_path / "backup", passphrase="another")
    restore.put_in_place(host, restore.unpack(host, tmp_path / "backup", passphrase=key.passphrase))
    assert words(tmp_path / "one") == {"saved"}


def test_plain_age_and_tar_open_it(tmp_path: Path) -> None:
    save(machine(tmp_path / "one", "saved"), tmp_path / "backup")
    opened = io.BytesIO(pyrage.decrypt((tmp_path / "backup").read_bytes(), [IDENTITY]))
    with tarfile.open(fileobj=opened) as tar:
        names = tar.getnames()
    assert names[-1] == "manifest.json"
    assert {f"{ETC}/todoku.toml", f"{STATE}/todoku.sqlite3"} < set(names)


def test_a_database_in_use_is_saved_as_it_was_at_one_moment(tmp_path: Path) -> None:
    host = machine(tmp_path / "one", "0")
    database = sqlite3.connect(tmp_path / "one" / STATE / "todoku.sqlite3", check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE pair (left INTEGER, right INTEGER)")
    over = threading.Event()

    def use() -> None:
        count = 0
        while not over.is_set():
            count += 1
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO pair VALUES (?, 0)", (count,))
            database.execute("UPDATE pair SET right = left")
            database.commit()

    using = threading.Thread(target=use)
    using.start()
    try:
        for number in range(5):
            save(host, tmp_path / "backup")
            other = Host(tmp_path / f"other{number}")
            restore.put_in_place(other, unpack(other, tmp_path / "backup"))
            copy = sqlite3.connect(other.root / STATE / "todoku.sqlite3")
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert copy.execute("SELECT count(*) FROM pair WHERE left != right").fetchone() == (0,)
            copy.close()
    finally:
        over.set()
        using.join()
        database.close()


def test_the_journal_of_the_database_that_was_there_does_not_get_into_the_restored_one(
    tmp_path: Path,
) -> None:
    host = machine(tmp_path / "one", "before")
    save(host, tmp_path / "backup")
    database = sqlite3.connect(tmp_path / "one" / STATE / "todoku.sqlite3")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("UPDATE word SET word = 'after'")
    database.commit()  # it is in the journal, which stays as long as the database is open
    restore.put_in_place(host, unpack(host, tmp_path / "backup"))
    assert words(tmp_path / "one") == {"before"}
    database.close()


# --- bad days -----------------------------------------------------------------------------------------------------


def test_a_cut_or_changed_file_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    host = machine(tmp_path / "one", "before")
    save(host, tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    machine(tmp_path / "one", "now")
    for broken in (
        b"",
        whole[:100],
        whole[: len(whole) // 2],
        whole[:-1],
        whole[:-20] + b"x" * 20,
        b"x" * 5000,
    ):
        (tmp_path / "backup").write_bytes(broken)
        with pytest.raises(BackupError, match="Nothing was changed"):
            unpack(host, tmp_path / "backup")
    assert words(tmp_path / "one") == {"now"}
    assert not (tmp_path / "one" / STATE / ".restore").exists()


def test_a_full_disk_leaves_the_previous_backup_and_says_so(tmp_path: Path) -> None:
    host = machine(tmp_path / "one", "saved")
    small = tmp_path / "small"
    small.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small]).returncode
    ):
        pytest.skip("needs to mount")
    try:
        (small / "backup").write_bytes(b"the previous one")
        (tmp_path / "one" / STATE / "large").write_bytes(random.randbytes(200_000))
        with pytest.raises(OSError, match="No space left"):
            save(host, small / "backup")
        assert (small / "backup").read_bytes() == b"the previous one"
        assert [path.name for path in small.iterdir()] == ["backup"]
    finally:
        subprocess.run(["umount", small], check=True)


_RESTORE = """
import sys
from pathlib import Path
from todoku.host.backup import restore
from todoku.host.client import Host
host = Host(Path(sys.argv[1]))
print("begun", flush=True)
restore.put_in_place(host, restore.unpack(host, Path(sys.argv[2]), identities=(sys.argv[3],)))
"""


def test_killed_at_any_moment_it_has_done_nothing_or_is_finished_by_the_next_command(tmp_path: Path) -> None:
    host = machine(tmp_path / "one", "before")
    save(host, tmp_path / "backup")
    for _ in range(12):
        machine(tmp_path / "one", "now")
        arguments = [sys.executable, "-c", _RESTORE, str(host.root), str(tmp_path / "backup"), str(IDENTITY)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as restoring:
            assert restoring.stdout is not None
            restoring.stdout.readline()
            time.sleep(random.uniform(0, 0.03))
            restoring.send_signal(signal.SIGKILL)
        restore.go_on(host)
        assert words(tmp_path / "one") in ({"before"}, {"now"})
        shutil.rmtree(tmp_path / "one" / STATE / ".restore", ignore_errors=True)
        shutil.rmtree(tmp_path / "one" / ETC / ".restore", ignore_errors=True)


def test_a_decided_restore_is_finished_whatever_was_done_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off at each single rename, which is where a kill could hit."""
    rename, left = Path.rename, 0

    def cut(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return rename(self, target)

    for allowed in range(2, 40):
        root = tmp_path / str(allowed)
        host = machine(root, "before")
        save(host, tmp_path / "backup")
        machine(root, "now")
        unpacked, left = unpack(host, tmp_path / "backup"), allowed
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", cut)
            try:
                restore.put_in_place(host, unpacked)
                break
            except KeyboardInterrupt:
                pass
        with pytest.raises(BackupError, match="not finished"):
            unpack(host, tmp_path / "backup")
        assert restore.go_on(host)
        assert words(root) == {"before"}
        assert not restore.go_on(host)
    assert allowed > 8


# --- archives that Todoku did not make ------------------------------------------------------------------------------


def _locked(into: Path, build: Callable[[tarfile.TarFile], None], manifest: Manifest | None) -> Path:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        build(tar)
        if manifest is not None:
            _put(tar, "manifest.json", json.dumps(asdict(manifest)).encode())
    into.write_bytes(pyrage.encrypt(plain.getvalue(), [IDENTITY.to_public()]))
    return into


def _put(
    tar: tarfile.TarFile, name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.uname, member.gname = kind, link, "root", "root"
    member.size = len(content) if kind == tarfile.REGTYPE else 0
    tar.addfile(member, io.BytesIO(content))


EMPTY = Manifest("0.1.0", "2026-11-24T00:00:00+00:00", 0.0, "mx", "", False, {})


@pytest.mark.parametrize(
    ("name", "kind", "link", "said"),
    [
        ("../../etc/passwd", tarfile.REGTYPE, "", "leads out of its place"),
        ("etc/todoku/../passwd", tarfile.REGTYPE, "", "leads out of its place"),
        ("/etc/todoku/x", tarfile.REGTYPE, "", "leads out of its place"),
        ("etc/todoku//x", tarfile.REGTYPE, "", "leads out of its place"),
        ("etc/passwd", tarfile.REGTYPE, "", "is not below"),
        ("etc/todoku-other/x", tarfile.REGTYPE, "", "is not below"),
        ("etc/todoku/x", tarfile.SYMTYPE, "/etc/passwd", "neither a plain file"),
        ("etc/todoku/x", tarfile.LNKTYPE, "etc/todoku/y", "neither a plain file"),
        ("etc/todoku/x", tarfile.CHRTYPE, "", "neither a plain file"),
        ("etc/todoku/x", tarfile.FIFOTYPE, "", "neither a plain file"),
        ("var/lib/todoku/.restore/decision.json", tarfile.REGTYPE, "", "restoring itself uses"),
        ("var/lib/todoku/before-restore/x", tarfile.REGTYPE, "", "restoring itself uses"),
    ],
)
def test_what_leads_out_or_is_no_plain_file_is_refused(
    tmp_path: Path, name: str, kind: bytes, link: str, said: str
) -> None:
    host = machine(tmp_path / "one", "now")
    file = _locked(tmp_path / "backup", lambda tar: _put(tar, name, b"evil", kind, link), EMPTY)
    with pytest.raises(BackupError, match=said):
        unpack(host, file)
    assert words(tmp_path / "one") == {"now"}
    assert not (tmp_path / "one" / STATE / ".restore").exists()
    assert not (tmp_path / "etc").exists()


def test_a_member_twice_a_wrong_checksum_and_no_manifest_are_refused(tmp_path: Path) -> None:
    host = machine(tmp_path / "one", "now")

    def twice(tar: tarfile.TarFile) -> None:
        _put(tar, "etc/todoku/x")
        _put(tar, "etc/todoku/x")

    def once(tar: tarfile.TarFile) -> None:
        _put(tar, "etc/todoku/x")

    for build, manifest, said in (
        (twice, EMPTY, "is there twice"),
        (once, EMPTY, "not as the manifest says: etc/todoku/x"),
        (once, None, "it is cut off"),
    ):
        with pytest.raises(BackupError, match=said):
            unpack(host, _locked(tmp_path / "backup", build, manifest))
    assert words(tmp_path / "one") == {"now"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tar of a backup, without its lock."""
    folder = tmp_path_factory.mktemp("plain")
    save(machine(folder / "one", "saved"), folder / "backup")
    return bytes(pyrage.decrypt((folder / "backup").read_bytes(), [IDENTITY]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1), by=st.binary(min_size=1, max_size=40), cut=st.booleans())
def test_any_change_to_the_archive_is_refused_or_harmless(
    plain: bytes, tmp_path: Path, at: float, by: bytes, cut: bool
) -> None:
    place = int(at * len(plain))
    changed = plain[:place] + by + (b"" if cut else plain[place + len(by) :])
    (tmp_path / "backup").write_bytes(pyrage.encrypt(changed, [IDENTITY.to_public()]))
    host = Host(tmp_path / "one")
    try:
        unpacked = unpack(host, tmp_path / "backup")
    except BackupError:
        assert not (tmp_path / "one" / STATE / ".restore").exists()
        return
    restore.put_in_place(host, unpacked)
    assert words(tmp_path / "one") == {"saved"}
    shutil.rmtree(tmp_path / "one")
