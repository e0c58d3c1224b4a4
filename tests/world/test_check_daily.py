# A record vanishes, a key is not signed with any more: nobody here did anything, and mail is refused from then on. The
# judge looks every day, and whoever looks after the mail hears of a change: once when something begins to be wrong, and
# once when it is over.

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clouds import Tenancy
from conftest import World, wait
from test_alarms import subjects
from test_ledger import agents

from todoku.delivery import alarms

REPORT = Path("/var/lib/todoku/alarms/check.json")


def look(world: World) -> None:
    """What the service does every day."""
    done = world.todoku("check", "--report", "--only-problems", "--json")
    assert done.returncode in (0, 1), done.stderr


def told() -> set[str]:
    return {each["name"] for each in json.loads(REPORT.read_text())}


@pytest.fixture
def reporting() -> Iterator[None]:
    yield
    alarms.withdraw("check")


def test_a_broken_record_is_told_once_and_once_more_when_it_is_over(world: World, reporting: None) -> None:
    tenancy = Tenancy(world)
    wrong = "ALARM: _dmarc.hoge.example has 2 DMARC records"
    over = "OVER: _dmarc.hoge.example has 2 DMARC records"
    with tenancy.changed(f"_dmarc.{world.domain}", "TXT", '"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'):
        look(world)
        assert f"dmarc.record:{world.domain}" in told()
        wait(lambda: subjects(world, wrong), "the alarm", 30)
        for process in agents()[-1:]:
            os.kill(process, signal.SIGKILL)
        look(world)  # the next day
        time.sleep(2)
        assert len(subjects(world, wrong)) == 1
        assert not subjects(world, over)
    look(world)
    assert f"dmarc.record:{world.domain}" not in told()
    wait(lambda: subjects(world, over), "the end of the alarm", 40)
    assert len(subjects(world, wrong)) == 1


@contextmanager
def service(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = ["python", "-I", "-m", "todoku.cli.services.daily_check", *options]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.mark.slow  # a look each time; tests/unit/cli/services/test_daily_check.py shows when the next one is due
def test_whoever_is_killed_misses_no_day_and_looks_no_more_often(world: World, reporting: None) -> None:
    look(world)
    before = REPORT.stat().st_mtime
    with service("--every", "100000") as process:  # today's look was made
        time.sleep(1.5)
        process.kill()
    assert REPORT.stat().st_mtime == before
    os.utime(REPORT, (before - 200_000, before - 200_000))
    with service("--every", "100000") as process:  # the machine was off for two days
        time.sleep(0.8)
        os.killpg(process.pid, signal.SIGKILL)  # in the middle of the look
    assert json.loads(REPORT.read_text()) is not None
    with service("--every", "100000"):
        wait(lambda: REPORT.stat().st_mtime > before, "the look", 30)
    running = subprocess.run(
        ["supervisorctl", "status", "todoku-check"], capture_output=True, text=True, check=False
    )
    assert "RUNNING" in running.stdout
