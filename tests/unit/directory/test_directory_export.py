# A change is in force at once, and a bad day (full disk, kill -9, two commands at once) loses nothing.

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from directory_place import FAKE, place_in

from todoku import store
from todoku.directory import Directory, Place
from todoku.directory.errors import BusyError, ExportFailedError, NotInForceError
from todoku.directory.export import owners_here
from todoku.settings import Settings

HERE = Path(__file__).parent


def run(folder: Path, body: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own that has `directory` and `place` in `folder`; `body` prints what is done."""
    code = f"""
import sys, os
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from directory_place import place_in, settings_for
place = place_in(Path({str(folder)!r}), fake={bool(environment)!r})
directory = place.open(settings_for())
print("ready", flush=True)
{textwrap.dedent(body)}
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


ADD_MANY = """
for number in range(1000):
    directory.add_alias(f"a{number}@hoge.example", ["carol@mailbox.example"])
    print(number, flush=True)
"""


def test_every_export_has_a_later_second_so_that_dovecot_notices_it(
    directory: Directory, place: Place
) -> None:
    directory.add_account("alice@hoge.example", "password 00")
    seen = []
    for number in range(1, 6):
        directory.set_password("alice@hoge.example", f"password 0{number}")
        seen.append(int((place.exporter.folder / "dovecot.passwd").stat().st_mtime))
    assert seen == sorted(set(seen))


def test_a_failing_export_rolls_the_change_back_and_says_so(directory: Directory, place: Place) -> None:
    directory.add_account("alice@hoge.example", "correct horse")
    before = (place.exporter.folder / "virtual_mailbox").read_text()
    (place.exporter.folder / ".sender_login.new").mkdir()  # the last of the files cannot be written
    with pytest.raises(ExportFailedError, match=r"nothing was changed.*df "):
        directory.add_account("bob@hoge.example", "correct horse")
    assert [account.login for account in directory.accounts()] == ["alice@hoge.example"]
    assert (place.exporter.folder / "virtual_mailbox").read_text() == before
    (place.exporter.folder / ".sender_login.new").rmdir()
    assert not list(place.exporter.folder.glob(".*.new"))
    directory.add_account("bob@hoge.example", "correct horse")


@pytest.mark.parametrize("largest", [0, 2_000, 10_000, 40_000, 70_000, 150_000])
def test_a_disk_that_fills_up_changes_all_or_nothing(
    tmp_path: Path, settings: Settings, largest: int
) -> None:
    place = place_in(tmp_path, fake=True)
    store.migrate(place.database)
    directory = place.open(settings)
    directory.add_alias("before@hoge.example", ["carol@mailbox.example"])
    failed = run(
        tmp_path,
        f"""
        import resource
        from todoku.directory import DirectoryError
        from todoku.store import StoreError
        resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))
        try:
            directory.add_alias("many@hoge.example", [f"c{{n}}@mailbox.example" for n in range(3000)])
        except (DirectoryError, StoreError) as error:
            print(type(error).__name__, error)
        else:
            print("done")
        """,
        TODOKU_TEST="1",
    )
    output, errors = failed.communicate()
    assert failed.returncode == 0, errors
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != largest
    stored = "many@hoge.example" in directory.people().held.targets
    told = output.splitlines()[1]
    assert stored == told.startswith(("done", "NotInForceError"))
    assert stored or "changed" in told
    if not told.startswith("NotInForceError"):
        assert not directory.export_differences()[1]
    directory.export()
    assert not directory.export_differences()[1]


def test_a_failing_postmap_is_told_as_stored_but_not_in_force(place: Place, settings: Settings) -> None:
    program = place.exporter.folder.parent / "postmap"
    program.write_text("#!/bin/sh\necho 'postmap: fatal: no space' >&2; exit 1\n")
    program.chmod(0o755)
    directory = replace(place, exporter=replace(place.exporter, postmap=(str(program),))).open(settings)
    with pytest.raises(NotInForceError, match=r"is stored.*no space.*todoku apply"):
        directory.add_account("alice@hoge.example", "correct horse")
    repaired = place.open(settings)
    assert repaired.export_differences()[1]
    repaired.export()
    assert not repaired.export_differences()[1]
    assert repaired.account("alice")


def test_without_postfix_nothing_is_changed(place: Place, settings: Settings) -> None:
    nowhere = replace(place, exporter=replace(place.exporter, postmap=("no-such-postmap",)))
    with pytest.raises(ExportFailedError, match=r"not installed.*nothing was changed.*todoku apply"):
        nowhere.open(settings).add_account("alice@hoge.example", "correct horse")
    assert place.open(settings).accounts() == ()


def test_missing_users_of_the_machine_are_named() -> None:
    try:
        owners = owners_here()
    except ExportFailedError as error:
        assert "todoku apply" in str(error)
    else:
        assert owners.owner_uid == 0


def test_without_the_user_of_all_mailboxes_nothing_is_changed(place: Place, settings: Settings) -> None:
    nobody = replace(place.exporter.owners(), mail=None)
    directory = replace(place, exporter=replace(place.exporter, owners=lambda: nobody)).open(settings)
    with pytest.raises(ExportFailedError, match=r"user vmail.*nothing was changed.*todoku apply"):
        directory.add_account("alice@hoge.example", "correct horse")
    assert directory.accounts() == ()


def test_a_command_that_holds_the_lock_for_too_long_is_reported(
    directory: Directory, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("todoku.directory.export._LOCK_SECONDS", 0.1)
    with place.exporter.lock(), pytest.raises(BusyError, match=r"nothing was changed.*fuser"):
        directory.add_account("alice@hoge.example", "correct horse")
    directory.add_account("alice@hoge.example", "correct horse")


def test_commands_at_the_same_time_lose_nothing_of_each_other(directory: Directory, tmp_path: Path) -> None:
    body = """
    for number in range(10):
        directory.add_alias(f"{NAME}{number}@hoge.example", ["carol@mailbox.example"])
        directory.add_alias("all@hoge.example", [f"{NAME}{number}@hoge.example"])
    """
    processes = [run(tmp_path, body.replace("{NAME}", name)) for name in ("x", "y", "z")]
    assert [(each.communicate()[1], each.returncode) for each in processes] == [("", 0)] * 3
    assert len(directory.people().held.targets["all@hoge.example"]) == 30
    assert not directory.export_differences()[1]


def test_a_command_killed_at_any_moment_is_repaired_by_the_next(directory: Directory, tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: set[str] = set()
    for _ in range(6):
        process = run(tmp_path, ADD_MANY.replace("range(1000)", f"range({len(acknowledged)}, 1000)"))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        first = process.stdout.readline()  # however slow the machine: one is done, and the next has begun
        time.sleep(chance.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        numbers = [first, *process.communicate()[0].splitlines()]
        acknowledged |= {f"a{number.strip()}@hoge.example" for number in numbers}
        present = set(directory.people().held.targets)
        assert acknowledged <= present
        acknowledged |= present
        directory.export()
        assert not directory.export_differences()[1]
        assert not list((tmp_path / "directory").glob(".*.new"))
    assert len(acknowledged) > 6


@pytest.mark.parametrize("name", ["virtual_mailbox", "virtual_alias", "sender_login"])
def test_killed_between_a_text_and_its_map_is_noticed_and_repaired(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    # The fake, because it can be told where to kill: the text is new by then, and the map is not.
    place = place_in(tmp_path, fake=True)
    store.migrate(place.database)
    directory = place.open(settings)
    directory.export()
    process = run(
        tmp_path, 'directory.add_account("alice@hoge.example", "correct horse")', TODOKU_TEST_KILL_AT=name
    )
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert directory.account("alice")
    assert f"{name}.lmdb" in directory.export_differences()[1]
    directory.add_alias("next@hoge.example", ["carol@mailbox.example"])
    assert not directory.export_differences()[1]


def test_the_fake_postmap_says_what_the_real_one_says(tmp_path: Path) -> None:
    source = tmp_path / "map"
    source.write_text("# comment\na@hoge.example\tb,c\n")
    subprocess.run([FAKE, f"lmdb:{source}"], check=True)
    shown = subprocess.run([FAKE, "-s", f"lmdb:{source}"], check=True, capture_output=True, text=True).stdout
    assert shown == "a@hoge.example\tb,c\n"
