# Bad days of those who keep the books: the ledger cannot be written, the agent is killed again and again, the relay is
# away for hours. Mail flows meanwhile, it is said what is wrong, and in the end there is one row for each message.

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CONFIG, World, wait
from test_ledger import agents, journeys, settled, tries

LEDGER = Path("/var/lib/todoku/ledger/ledger.sqlite3")
SPOOL = Path("/var/spool/postfix/deferred")


def figures(name: str) -> dict[str, float]:
    """Those that begin so, as a monitoring system gets them."""
    with urllib.request.urlopen("http://127.0.0.1:9587/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith(name)]
    return {key: float(value) for key, _, value in found}


def alarms(world: World) -> dict[str, str]:
    done = world.todoku("status", "--json")
    return {each["name"]: each["found"] for each in json.loads(done.stdout.splitlines()[-1])["alarms"]}


def require_each_once(world: World, subjects: list[str], seconds: float = 60) -> None:
    """Asked about all of them at once: one command for each takes longer than they do."""
    wanted = {f"<{subject.replace(' ', '-')}@{world.domain}>" for subject in subjects}

    def found() -> list[dict[str, Any]]:
        done = world.todoku("trace", world.alice.address, "--most", "500", "--json")
        listed = json.loads(done.stdout.splitlines()[-1])["messages"]
        return [each for each in listed if each["message_id"] in wanted]

    def all_accepted() -> bool:
        states = {
            each["message_id"]: recipient["state"] for each in found() for recipient in each["recipients"]
        }
        return states.keys() == wanted and set(states.values()) <= {"accepted", "relayed"}

    wait(all_accepted, "all of them to be accepted in the ledger", seconds)
    once = found()
    assert len(once) == len(wanted)
    assert all(len(each["recipients"]) == len(tries(each)) == 1 for each in once)


@pytest.fixture
def unwritable(world: World) -> Iterator[None]:
    owner = LEDGER.stat()
    world.watch_relay(False)
    os.chown(LEDGER, 0, 0)
    LEDGER.chmod(0o400)
    yield
    os.chown(LEDGER, owner.st_uid, owner.st_gid)
    LEDGER.chmod(0o600)


@pytest.mark.slow  # the pauses between two tries grow: some 15 s until it has caught up
def test_a_ledger_that_cannot_be_written_is_told_and_caught_up_with(
    world: World, request: pytest.FixtureRequest
) -> None:
    running = agents()
    request.getfixturevalue("unwritable")
    subjects = [f"unwritable {number} {time.monotonic_ns()}" for number in range(5)]
    for subject in subjects:
        world.submit(world.alice, world.carol, subject)
    wait(
        lambda: sum("unwritable" in str(a.message["Subject"]) for a in world.arrived()) >= 5,
        "the mail to flow",
    )
    found = wait(lambda: (seen := alarms(world)).get("ledger:unwritable") and seen, "the alarm")
    assert "could write nothing into the ledger" in found["ledger:unwritable"]
    assert "ledger:unreadable" in found  # for root too, who reads it with the agent's rights
    assert agents() == running  # nobody had to be started again
    os.chown(
        LEDGER, *(Path("/var/lib/todoku/ledger").stat().st_uid, Path("/var/lib/todoku/ledger").stat().st_gid)
    )
    LEDGER.chmod(0o600)
    require_each_once(world, subjects)
    wait(
        lambda: not {name for name in alarms(world) if name.startswith("ledger")}, "the alarm to be over", 30
    )
    assert agents() == running


@pytest.mark.slow  # a minute: a random moment has to be met often
def test_killed_at_random_moments_no_row_is_missing_and_none_is_doubled(world: World) -> None:
    world.watch_relay(False)
    chance = random.Random(20261124)
    subjects = []
    for number in range(60):
        subjects.append(f"random {number} {time.monotonic_ns()}")
        world.submit(world.alice, world.carol, subjects[-1])
        time.sleep(chance.random() * 0.8)
        if number % 3 == 0:
            for process in agents()[-1:]:
                os.kill(process, signal.SIGKILL)
        if number == 30:
            subprocess.run(["postfix", "logrotate"], check=True, capture_output=True)
    require_each_once(world, subjects, 90)


def test_the_relay_is_away_for_hours_and_back(world: World) -> None:
    world.watch_relay(False)
    world.relay(down=True)
    subject = f"hours {time.monotonic_ns()}"
    world.submit(world.alice, world.carol, subject)
    journey = settled(world, subject, world.carol, "deferred")
    (carol,) = journey["recipients"]
    (file,) = wait(lambda: list(SPOOL.glob(f"*/{journey['queue_id']}")), "the message in the deferred queue")
    # The ledger knows when Postfix will try again; Postfix looks at its queue every few minutes.
    assert abs(carol["next_try"] - file.stat().st_mtime) <= 3
    assert "not before" in world.todoku("trace", f"<{subject.replace(' ', '-')}@{world.domain}>").stdout
    _date_back(file, 3 * 3600)
    (waiting,) = [m for m in _queue(world) if m["queue_id"] == journey["queue_id"]]
    assert time.time() - waiting["arrived"] > 3 * 3600 - 5
    found = alarms(world)
    assert "3.0 hours" in found["queue:old"]
    assert "the relay cannot be reached" in world.todoku("queue").stdout
    world.relay(down=False)
    world.flush()
    journey = settled(world, subject, world.carol, "accepted", 40)
    (carol,) = journey["recipients"]
    assert carol["next_try"] is None
    assert tries(journey)[-1]["state"] == "accepted"
    assert len(journeys(world, journey["message_id"])) == 1
    assert "queue:old" not in alarms(world)


def _queue(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(world.todoku("queue", "--json").stdout.splitlines()[-1])[
        "messages"
    ]
    return found


def _date_back(file: Path, seconds: int) -> None:
    """As if the message had been in the queue for that much longer: the times in its queue file."""
    now, octets = int(time.time()), file.read_bytes()

    def earlier(found: re.Match[bytes]) -> bytes:
        return b"%d" % (int(found[0]) - seconds) if abs(int(found[0]) - now) < 86_400 else found[0]

    dated = re.sub(rb"(?<!\d)\d{10}(?!\d)", earlier, octets)
    assert dated != octets
    with file.open("r+b") as opened:
        opened.write(dated)


@pytest.mark.slow  # two applies, and the agent starts twice
def test_a_monitoring_system_gets_its_figures_from_this_machine_only(
    world: World, settings_file: Path
) -> None:
    world.watch_relay(False)
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    assert ":9587" not in listening  # off unless it is asked for
    settings_file.write_text(CONFIG.read_text() + "\n[metrics]\n")
    world.apply()
    wait(lambda: "127.0.0.1:9587" in _listening(), "the figures")
    assert "0.0.0.0:9587" not in _listening()
    subject = f"figures {time.monotonic_ns()}"
    world.submit(world.alice, world.carol, subject)
    settled(world, subject, world.carol, "accepted")
    assert figures("todoku_relay_replies_total")['todoku_relay_replies_total{code="250"}'] >= 1
    assert figures("todoku_ledger_")["todoku_ledger_writable"] == 1
    counted = figures("todoku_recipients")
    assert counted['todoku_recipients{state="accepted"}'] + counted['todoku_recipients{state="relayed"}'] >= 1
    assert figures("todoku_plan_limit")['todoku_plan_limit_emails{window="day"}'] == 50_000
    assert figures("todoku_agent_lag")["todoku_agent_lag_seconds"] < 10


def _listening() -> str:
    return subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
