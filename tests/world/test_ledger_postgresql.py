# The books are kept in PostgreSQL instead of a file, set up as docs/delivery.md says: the whole way from submission
# over a suppression to the notice and the refusal, with the agent killed in between, and nothing missing or doubled.

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONFIG, World, wait
from test_ledger import agents, journeys, settled, tries

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "delivery"))
from postgresql_server import Server

# Two minutes: a PostgreSQL is made, and `todoku apply` runs twice.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
if "\n[cloud]\n" not in CONFIG.read_text():
    pytest.skip("this world has no cloud, so nobody tells of suppressions", allow_module_level=True)

SOCKETS = Path("/var/run/postgresql")  # where Debian's own server listens
LEDGER = Path("/var/lib/todoku/ledger/ledger.sqlite3")


@pytest.fixture(scope="module", autouse=True)
def in_postgresql(the_world: World) -> Iterator[Server]:
    """The ledger is there, and the file is not touched."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    assert found, "there is no PostgreSQL: script/setup --dev installs it"
    SOCKETS.mkdir(exist_ok=True)
    server = Server(SOCKETS, found[-1], durable=True)
    before = CONFIG.read_text()
    table = "\n[ledger]\n"
    assert before.count(table) <= 1
    try:
        server.make()
        cluster = SOCKETS / "cluster"
        hba, ident = cluster / "pg_hba.conf", cluster / "pg_ident.conf"
        hba.write_text("local todoku todoku-agent peer map=ledger\nlocal all postgres trust\n")
        ident.write_text("ledger todoku-agent todoku-agent\nledger root todoku-agent\n")
        server.start()
        server.run("createuser", "todoku-agent")
        server.run("createdb", "--owner=todoku-agent", "todoku")
        text = before if table in before else f"{before}{table}"
        CONFIG.write_text(text.replace(table, f'{table}database = "postgresql:///todoku"\n'))
        the_world.apply()
        yield server
    finally:
        CONFIG.write_text(before)
        the_world.apply()
        server.stop()
        shutil.rmtree(SOCKETS, ignore_errors=True)


def kill() -> None:
    for process in agents()[-1:]:
        os.kill(process, signal.SIGKILL)


def notices(world: World, address: str) -> int:
    """In alice's mailbox, about that address."""
    with world.imap(world.alice) as imap:
        imap.select("INBOX", readonly=True)
        found = imap.search(None, "SUBJECT", '"Undelivered Mail"', "TEXT", f'"{address}"')[1][0]
        return len(found.split())


def test_from_submission_to_the_notice_nothing_is_missing_or_doubled_whoever_is_killed(world: World) -> None:
    stamp = time.monotonic_ns()
    untouched = LEDGER.stat().st_mtime_ns
    gone = world.carol.replace("carol", f"unknown.pg{stamp}")
    first = f"pg bounce {stamp}"
    world.submit(world.alice, gone, first)
    kill()
    settled(world, first, gone, "bounced", 120)  # the relay's list or its log tells of it
    kill()
    wait(lambda: notices(world, gone), "the notice to the sender", 60)
    assert "suppressed" in world.todoku("trace", gone).stdout or journeys(world, gone)

    def refused() -> bool:
        with world.submission(world.alice) as smtp:
            smtp.say(f"MAIL FROM:<{world.alice.address}>")
            return "suppression" in smtp.say(f"RCPT TO:<{gone}>").text

    wait(refused, "the gate to refuse the suppressed recipient", 60)
    subjects = []
    for number in range(6):
        subjects.append(f"pg {number} {stamp}")
        world.submit(world.alice, world.carol, subjects[-1])
        if number % 2:
            kill()
    for subject in subjects:
        journey = settled(world, subject, world.carol, "accepted", 120)
        assert len(journey["recipients"]) == len(tries(journey)) == 1
        assert len(journeys(world, journey["message_id"])) == 1
    kill()
    deadline = time.monotonic() + 15  # what was in doubt is cleared up ten seconds after a start
    while time.monotonic() < deadline:
        assert notices(world, gone) == 1
        time.sleep(1)
    assert LEDGER.stat().st_mtime_ns == untouched
    stats = world.todoku("stats", "--by", "account")
    assert world.alice.address in stats.stdout, stats


def test_a_server_that_is_killed_and_comes_back_costs_nothing_but_time(
    world: World, in_postgresql: Server
) -> None:
    subject = f"pg away {time.monotonic_ns()}"
    running = agents()
    in_postgresql.kill()
    world.submit(world.alice, world.carol, subject)
    world.wait_for(subject, 60)  # mail does not depend on it
    status = world.todoku("status")
    assert status.returncode == 1
    assert "the ledger" in status.stdout + status.stderr
    subprocess.run(["rm", "-f", str(SOCKETS / "cluster" / "postmaster.pid")], check=True)
    in_postgresql.start()
    journey = settled(world, subject, world.carol, "accepted", 120)
    assert len(journeys(world, journey["message_id"])) == 1
    assert agents() == running
