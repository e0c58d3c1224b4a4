# What others refuse mail for changes without anybody here doing anything. Whoever looks after the mail hears of it
# once, and once more when it is over; a look that could not find out changes nothing.

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from todoku.check.finding import failed, passed, unknown, warned
from todoku.cli.services import daily_check
from todoku.cli.services.daily_check import alarms_of, due
from todoku.delivery import alarms

GONE = failed("dkim.record", "there is no record at x", "Publish it", "hoge.example")
FINE = passed("dkim.record", "x has a key", "hoge.example")
SILENT = unknown("dkim.active", "no answer within 8 s", "Look again", "hoge.example")


def names(folder: Path) -> list[str]:
    return [each.name for each in alarms.reported(folder)]


def test_failures_and_warnings_are_reported_and_what_passes_is_over(tmp_path: Path) -> None:
    many = warned("dmarc.reports", "nobody is asked", "Add rua=", "hoge.example")
    daily_check.report([GONE, many, passed("mx.record", "fine", "hoge.example")], tmp_path)
    assert names(tmp_path) == ["check:dkim.record:hoge.example", "check:dmarc.reports:hoge.example"]
    daily_check.report([FINE, many], tmp_path)
    assert names(tmp_path) == ["check:dmarc.reports:hoge.example"]
    daily_check.report([FINE], tmp_path)
    assert names(tmp_path) == []


def test_what_follows_from_something_else_is_no_alarm_of_its_own(tmp_path: Path) -> None:
    gate = failed("host.services", "todoku-gate does not run", "Start it", "todoku-gate")
    closed = failed("tls.offered", "454", "Look", "port 25")
    daily_check.report([closed], tmp_path)
    assert names(tmp_path) == ["check:tls.offered:port 25"]
    daily_check.report([gate, closed], tmp_path)  # what was told is not said to be over
    assert set(names(tmp_path)) == {"check:host.services:todoku-gate", "check:tls.offered:port 25"}
    daily_check.report([gate, failed("tls.offered", "454", "Look", "port 587")], tmp_path)
    assert "check:tls.offered:port 587" not in names(tmp_path)


def test_what_could_not_be_found_out_stays_as_it_was(tmp_path: Path) -> None:
    daily_check.report([GONE], tmp_path)
    daily_check.report([SILENT], tmp_path)
    assert names(tmp_path) == ["check:dkim.record:hoge.example"]
    daily_check.report([unknown("dkim.active", "no answer", "Look again", "other.example"), FINE], tmp_path)
    assert names(tmp_path) == []
    daily_check.report([SILENT], tmp_path)
    assert names(tmp_path) == [], "nothing is known to be wrong"


def test_a_report_that_is_broken_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "check.json").write_text("{")
    daily_check.report([GONE], tmp_path)
    assert names(tmp_path) == ["check:dkim.record:hoge.example"]


def test_one_thing_that_is_wrong_twice_is_one_alarm_and_what_the_agent_looks_at_is_none() -> None:
    twice = [failed("submission.relay", seen, "Stop it", "port 25") for seen in ("takes a", "takes b")]
    full = failed("host.disk", "0.0 GB are free", "Make room", "/var")
    (found,) = alarms_of([*twice, full])
    assert "takes a; takes b" in found.found
    assert found.found.startswith("port 25: ")
    assert found.calm == 0


@pytest.mark.parametrize(
    ("looked", "wait"), [(None, 7.0), (1000.0, 100.0), (950.0, 50.0), (10.0, 0.0), (99_999.0, 100.0)]
)
def test_the_next_look_is_a_day_after_the_last_whatever_happened_in_between(
    looked: float | None, wait: float
) -> None:
    assert due(looked, now=1000.0, every=100.0, first=7.0) == wait


def test_the_process_that_waits_ends_when_told_and_takes_little(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = [sys.executable, "-I", "-m", "todoku.cli.services.daily_check", "--pid-file", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 20
        while not pid.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert pid.read_text() == f"{process.pid}\n"
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        process.terminate()
        assert process.wait(10) == 0
    assert pages * os.sysconf("SC_PAGE_SIZE") < 40_000_000


def test_without_the_agents_folder_the_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        daily_check.report([GONE], tmp_path / "none")
