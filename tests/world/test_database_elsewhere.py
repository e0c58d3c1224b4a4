# "Our database is on another machine, and it wants a password." The ledger and bulk mail are kept there, by services
# that have given their rights up; and the password is nowhere where somebody could come across it.

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONFIG, World, wait
from database_elsewhere import NAME, ROLE, Elsewhere, elsewhere
from test_campaign import TABLE, asked
from test_ledger import agents, journeys, settled

# A minute and a half: a PostgreSQL is made, and `todoku apply` runs five times.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

ADDRESS = "192.168.77.2"  # of a machine in the office
OFFICE = ("ip", "netns", "exec", "office")
PASSWORDS = ("First%\"'@:/ horse", "second&battery$staple")
SECRETS = Path("/etc/todoku/secrets")
COPIES = {name: Path(f"/var/lib/todoku/{name}-password") for name in ("ledger", "campaign")}
AUTHORITY = Path("/etc/ssl/db-authority.pem")
SQLITE = Path("/var/lib/todoku/ledger/ledger.sqlite3")


def keep(password: str) -> None:
    """As docs/database.md says."""
    for name in COPIES:
        file = SECRETS / f"{name}-database"
        subprocess.run(["install", "-m", "600", "/dev/null", file], check=True)
        file.write_text(f"{password}\n")


def lines(name: str) -> str:
    return (
        f'database = "postgresql://{ROLE}@{NAME}/{name}?sslrootcert={AUTHORITY}"\n'
        f'database_password_file = "{SECRETS}/{name}-database"\n'
    )


@pytest.fixture(scope="module", autouse=True)
def database(the_world: World) -> Iterator[Elsewhere]:
    """The ledger and bulk mail are there."""
    before, hosts = CONFIG.read_text(), Path("/etc/hosts").read_text()
    with elsewhere(OFFICE, ADDRESS, PASSWORDS[0]) as there:
        try:
            Path("/etc/hosts").write_text(f"{hosts}\n{ADDRESS} {NAME}\n")
            subprocess.run(["install", "-m", "644", there.authority, AUTHORITY], check=True)
            keep(PASSWORDS[0])
            text = before if "\n[ledger]\n" in before else f"{before}\n[ledger]\n"
            text = text.replace("\n[ledger]\n", f"\n[ledger]\n{lines('ledger')}")
            CONFIG.write_text(text + TABLE.replace("hoge.example", the_world.domain) + lines("campaign"))
            the_world.apply()
            yield there
        finally:
            CONFIG.write_text(before)
            the_world.apply()
            Path("/etc/hosts").write_text(hosts)
    assert not [copy for copy in COPIES.values() if copy.exists()]  # nothing asks for them any more
    for name in ("todoku-campaign", "todoku-pages"):
        subprocess.run(["supervisorctl", "stop", name], check=False, capture_output=True)


def one_message(world: World, name: str) -> None:
    """Of bulk mail, to one person, by the service."""
    files = Path("/var/lib/todoku/elsewhere-test")
    files.mkdir(exist_ok=True)
    (files / "people.csv").write_text(f"address,evidence\n{world.carol},form of 2026\n")
    (files / "text").write_text("Hello.\n\n{{ unsubscribe }}\n")
    asked(world, "list", "add", name, "--title", name, "--consent", "once a month")
    asked(world, "list", "import", name, str(files / "people.csv"))
    subject = f"bulk {name}"
    asked(
        world, "campaign", "create", name, "--list", name, "--subject", subject, "--text", str(files / "text")
    )
    asked(world, "campaign", "start", name)
    world.wait_for(subject, 60)


def everything_that_is_read() -> Iterator[tuple[str, str]]:
    """What other users of this machine, or whoever is shown a log, could come across."""
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                yield f"{process}/{name}", (process / name).read_text(errors="replace")
            except OSError:  # it has ended
                continue
    for folder in ("/var/log", "/etc/todoku", "/etc/supervisor", "/var/lib/todoku", "/run/todoku"):
        for path, _, names in os.walk(folder):
            for each in (Path(path, name) for name in names):
                mode = each.lstat().st_mode
                if stat.S_ISREG(mode) and each.parent != SECRETS and each not in COPIES.values():
                    yield str(each), each.read_text(errors="replace")


def test_mail_and_bulk_mail_are_kept_there_by_services_without_rights(
    world: World, database: Elsewhere
) -> None:
    untouched = SQLITE.stat().st_mtime_ns
    subject = f"elsewhere {time.monotonic_ns()}"
    world.submit(world.alice, world.carol, subject)
    settled(world, subject, world.carol, "accepted", 120)
    one_message(world, f"first{time.monotonic_ns()}")
    for name in COPIES:
        wait(lambda name=name: database.connected(name), f"the service of {name} to be connected", 60)
    assert SQLITE.stat().st_mtime_ns == untouched
    owners = {name: (copy.owner(), stat.S_IMODE(copy.stat().st_mode)) for name, copy in COPIES.items()}
    assert owners == {"ledger": ("todoku-agent", 0o400), "campaign": ("todoku-campaign", 0o400)}


def test_a_new_password_is_taken_without_a_restart_and_nothing_is_lost(
    world: World, database: Elsewhere
) -> None:
    if (SECRETS / "ledger-database").read_text().strip() == PASSWORDS[1]:  # it is tried again
        database.change_password(PASSWORDS[0])
        keep(PASSWORDS[0])
        world.apply()
    running = agents()
    said = ""
    try:
        database.change_password(PASSWORDS[1])
        subject = f"with the old one {time.monotonic_ns()}"
        world.submit(world.alice, world.carol, subject)
        world.wait_for(subject, 60)  # mail does not depend on it
        status = world.todoku("status")
        assert status.returncode == 1
        said = status.stdout + status.stderr
        assert "password authentication failed" in said
    finally:
        keep(PASSWORDS[1])
        world.apply()
    journey = settled(world, subject, world.carol, "accepted", 120)
    assert len(journeys(world, journey["message_id"])) == 1
    assert agents() == running
    one_message(world, f"second{time.monotonic_ns()}")


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_file_that_others_could_read_is_refused_before_anything_changes(world: World, mode: int) -> None:
    file = SECRETS / "ledger-database"
    file.chmod(mode)
    try:
        planned = world.todoku("plan")
        assert planned.returncode != 0
        said = planned.stdout + planned.stderr
        assert f"can be used by others (mode {mode:04o})" in said
        assert "chmod 600" in said
        assert not [each for each in PASSWORDS if each in said]
    finally:
        file.chmod(0o600)
    assert world.todoku("plan", "--check").returncode == 0


def test_the_password_is_in_its_file_and_the_copies_and_nowhere_else(world: World) -> None:
    """After all of the above, its being wrong included."""
    world.todoku("plan")
    assert PASSWORDS[1] in COPIES["ledger"].read_text()
    found = {where for where, text in everything_that_is_read() for password in PASSWORDS if password in text}
    assert found == set()
