# However messages fall in time, no window ever holds more than its limit, and the time that is told is the right one.

from __future__ import annotations

import re
import threading
import time
from calendar import timegm
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.gate.decision import HoldBack, Refuse
from todoku.gate.limits import Limits, Reached, Spender
from todoku.gate.spent import DAY, MINUTE, MONTH, REMEMBERED, Busy, units
from todoku.settings import Settings, parse

NOW = 1_795_500_000.0
BASE = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[relay.plan]
per_minute = {plan[0]}
per_day = {plan[1]}
per_month = {plan[2]}
[gate]
recipients_per_minute = {gate[0]}
recipients_per_day = {gate[1]}
new_recipients_per_day = {gate[2]}
forwarded_per_day = 3
reserved_share = 25
"""
WIDE = (10**6, 10**7, 10**8)


def _settings(plan: tuple[int, int, int] = WIDE, gate: tuple[int, int, int] = WIDE) -> Settings:
    return parse(BASE.format(plan=plan, gate=gate), "todoku.toml")


def _limits(folder: Path, plan: tuple[int, int, int] = WIDE, gate: tuple[int, int, int] = WIDE) -> Limits:
    return Limits(_settings(plan, gate), folder / "limits.sqlite3")


def _several(number: int, start: int = 0) -> list[str]:
    return [f"r{n}@mailbox.example" for n in range(start, start + number)]


def _told(verdict: object) -> int:
    """The second at which it can be sent, according to the words."""
    assert isinstance(verdict, HoldBack), verdict
    found = re.search(r"from (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", verdict.words)
    assert found, verdict.words
    return timegm(time.strptime(found[1], "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize(
    ("recipients", "size", "counted"),
    [(1, 0, 1), (1, 2_000_000, 1), (1, 2_000_001, 2), (10, 10_000_000, 50), (3, 4096, 3)],
)
def test_the_relay_counts_a_recipient_for_each_started_2_mb(recipients: int, size: int, counted: int) -> None:
    assert units(recipients, size) == counted


@pytest.mark.parametrize(
    ("plan", "gate", "key", "longest"),
    [
        ((4, 10**7, 10**8), WIDE, "relay.plan.per_minute", 62),
        ((4, 4, 10**8), WIDE, "relay.plan.per_day", DAY + 600),
        ((4, 4, 4), WIDE, "relay.plan.per_month", MONTH + 7200),
        (WIDE, (4, 10**7, 10**8), "gate.recipients_per_minute", 62),
        (WIDE, (10**6, 4, 10**8), "gate.recipients_per_day", DAY + 600),
        (WIDE, (10**6, 10**7, 4), "gate.new_recipients_per_day", DAY + 600),
    ],
)
def test_each_limit_holds_back_and_passes_at_the_second_that_it_names(
    tmp_path: Path, plan: tuple[int, int, int], gate: tuple[int, int, int], key: str, longest: int
) -> None:
    limits = _limits(tmp_path, plan, gate)
    for number in range(4):
        assert limits.spend(Spender("alice"), _several(1, number), 100, NOW + number) is None
    held = limits.spend(Spender("alice"), _several(1, 9), 100, NOW + 4)
    until = _told(held)
    assert isinstance(held, HoldBack)
    assert key in held.words
    assert NOW + 4 < until <= NOW + longest
    assert isinstance(limits.spend(Spender("alice"), _several(1, 9), 100, until - 1), HoldBack)
    assert limits.spend(Spender("alice"), _several(1, 9), 100, until) is None


def test_a_message_that_is_held_back_uses_nothing_up(tmp_path: Path) -> None:
    limits = _limits(tmp_path, gate=(3, 10**7, 10**8))
    assert limits.spend(Spender("alice"), _several(2), 100, NOW) is None
    for _ in range(5):
        assert limits.spend(Spender("alice"), _several(2), 100, NOW) is not None
    assert limits.spend(Spender("alice"), _several(1), 100, NOW) is None


def test_whoever_has_been_written_to_is_not_new_for_half_a_year(tmp_path: Path) -> None:
    limits = _limits(tmp_path, gate=(10**6, 10**7, 2))
    assert limits.spend(Spender("alice"), ["Carol@Mailbox.example", "dan@mailbox.example"], 100, NOW) is None
    assert limits.spend(Spender("alice"), ["carol@mailbox.example"], 100, NOW + 1) is None
    assert isinstance(limits.spend(Spender("alice"), ["eve@mailbox.example"], 100, NOW + 2), HoldBack)
    assert (
        limits.spend(Spender("bob"), ["carol@mailbox.example", "eve@mailbox.example"], 100, NOW + 3) is None
    )
    later = NOW + REMEMBERED + 10
    assert limits.spend(Spender("alice"), ["x@mailbox.example", "y@mailbox.example"], 100, later) is None
    assert isinstance(limits.spend(Spender("alice"), ["dan@mailbox.example"], 100, later + 1), HoldBack)


def test_the_plan_is_shared_by_all_and_outlives_the_process(tmp_path: Path) -> None:
    plan = (3, 3, 10**8)
    assert _limits(tmp_path, plan).spend(Spender("alice"), _several(2), 100, NOW) is None
    assert isinstance(_limits(tmp_path, plan).spend(Spender("bob"), _several(2), 100, NOW), HoldBack)
    assert _limits(tmp_path, plan).spend(Spender("bob"), _several(1), 100, NOW) is None


def test_a_message_to_more_than_a_minute_of_the_plan_passes_once_and_the_queue_spreads_it(
    tmp_path: Path,
) -> None:
    limits = _limits(tmp_path, plan=(10, 200, 3000))
    assert limits.spend(Spender("alice"), _several(25), 100, NOW) is None
    assert _told(limits.spend(Spender("alice"), _several(1), 100, NOW + 1)) == NOW + 61
    assert isinstance(limits.spend(Spender("alice"), _several(201), 100, NOW + 99), Refuse)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=40))
def test_no_minute_ever_holds_more_than_its_limit(
    tmp_path_factory: pytest.TempPathFactory, messages: list[tuple[int, int]]
) -> None:
    limits = _limits(tmp_path_factory.mktemp("any"), gate=(10, 10**7, 10**8))
    now, passed = NOW, []
    for pause, recipients in messages:
        now += pause
        if limits.spend(Spender("alice"), _several(recipients), 100, now) is None:
            passed.append((now, recipients))
    for begin, _ in passed:
        assert sum(number for at, number in passed if begin <= at < begin + 60) <= 10


def test_workers_that_spend_at_the_same_time_never_exceed_a_limit(tmp_path: Path) -> None:
    passed: list[int] = []

    def worker(name: int) -> None:
        limits = _limits(tmp_path, plan=(50, 50, 10**8))
        passed.extend(
            1 for n in range(25) if limits.spend(Spender(f"login{name}"), _several(1, n), 100, NOW) is None
        )

    workers = [threading.Thread(target=worker, args=(name,)) for name in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert len(passed) == 50


def test_what_no_longer_counts_is_forgotten(tmp_path: Path) -> None:
    import sqlite3

    limits = _limits(tmp_path)
    for day in range(4):
        limits.spend(Spender("alice"), _several(3, 10 * day), 100, NOW + day * 120 * DAY)
    rows = sqlite3.connect(tmp_path / "limits.sqlite3")
    assert rows.execute("SELECT min(start) FROM spent").fetchone()[0] >= NOW + 3 * 120 * DAY - 7200
    assert rows.execute("SELECT count(*) FROM written_to").fetchone()[0] == 6
    assert (tmp_path / "limits.sqlite3").stat().st_mode & 0o077 == 0


def test_a_count_that_cannot_be_written_does_not_stop_the_next(tmp_path: Path) -> None:
    import sqlite3

    limits = _limits(tmp_path)
    assert limits.spend(Spender("alice"), _several(1), 100, NOW) is None
    opened = limits._open()
    connection = opened.patient

    class FullDisk:
        """As SQLite when COMMIT finds no room: the transaction stays open."""

        def __getattr__(self, name: str) -> object:
            return getattr(connection, name)

        def execute(self, statement: str, *more: object) -> object:
            if statement == "COMMIT":
                raise sqlite3.OperationalError("database or disk is full")
            return connection.execute(statement, *more)  # type: ignore[arg-type]

    limits._opened = replace(opened, patient=FullDisk())  # type: ignore[arg-type]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        limits.spend(Spender("alice"), _several(1), 100, NOW)
    limits._opened = opened
    assert limits.spend(Spender("alice"), _several(1), 100, NOW) is None


def _told_of(limits: Limits, spender: Spender, recipients: list[str], now: float) -> list[Reached]:
    reached: list[Reached] = []
    limits.spend(spender, recipients, 100, now, reached.append)
    return reached


def test_a_limit_that_is_near_is_said_and_not_at_each_message(tmp_path: Path) -> None:
    limits = _limits(tmp_path, gate=(10, 10, 10**8))
    alice = Spender("alice")
    assert _told_of(limits, alice, _several(7), NOW) == []
    assert _told_of(limits, alice, _several(1, 7), NOW + 1) == [Reached("alice", "recipients", DAY, 8, 10)]
    assert _told_of(limits, alice, _several(1, 8), NOW + 2) == []
    later = NOW + 700
    assert _told_of(limits, alice, _several(1, 9), later) == [Reached("alice", "recipients", DAY, 10, 10)]


def test_one_that_is_used_up_is_said_whatever_its_window(tmp_path: Path) -> None:
    limits = _limits(tmp_path, plan=(2, 10**7, 10**8))
    assert _told_of(limits, Spender("alice"), _several(2), NOW) == []
    (reached,) = _told_of(limits, Spender("bob"), _several(1), NOW + 1)
    assert (reached.whose, reached.window, reached.most) == ("the plan of the relay", MINUTE, 2)
    assert reached.until == NOW + 61


def test_bulk_leaves_a_share_of_the_plan_to_personal_mail(tmp_path: Path) -> None:
    limits = _limits(tmp_path, plan=(100, 100, 10**8))
    bulk = Spender("news", reserves=True)
    assert limits.spend(bulk, _several(75), 100, NOW) is None
    held = limits.spend(bulk, _several(1), 100, NOW + 1)
    assert isinstance(held, HoldBack)
    assert "has 75 emails in 24 hours for bulk and forwarded mail (gate.reserved_share)" in held.words
    assert limits.spend(Spender("alice"), _several(25), 100, NOW + 2) is None
    assert isinstance(limits.spend(Spender("alice"), _several(1), 100, NOW + 3), HoldBack)
    never = limits.spend(bulk, _several(76), 100, NOW + 4)
    assert isinstance(never, Refuse)
    assert limits.spend(bulk, _several(1), 100, _told(held)) is None


def test_personal_mail_counts_against_bulk_too(tmp_path: Path) -> None:
    limits = _limits(tmp_path, plan=(100, 100, 10**8))
    assert limits.spend(Spender("alice"), _several(75), 100, NOW) is None
    assert isinstance(limits.spend(Spender("news", reserves=True), _several(1), 100, NOW), HoldBack)


def test_each_alias_passes_on_so_much_a_day_and_uses_up_nothing_of_others(tmp_path: Path) -> None:
    limits = _limits(tmp_path)
    sales, press = (
        Spender(f"{name}@hoge.example", is_alias=True, reserves=True) for name in ("sales", "press")
    )
    for _ in range(3):
        assert limits.spend(sales, _several(1), 100, NOW) is None
    held = limits.spend(sales, _several(1), 100, NOW)
    assert isinstance(held, HoldBack)
    assert "the alias sales@hoge.example has 3 forwarded recipients in 24 hours" in held.words
    assert "gate.forwarded_per_day" in held.words
    assert limits.spend(press, _several(1), 100, NOW) is None
    assert limits.spend(Spender("sales@hoge.example"), _several(3), 100, NOW) is None


def test_the_event_loop_counts_at_once_what_the_thread_counts_too(tmp_path: Path) -> None:
    limits = _limits(tmp_path, gate=(3, 10, 10))
    with pytest.raises(Busy):  # opening the file is for the thread
        limits.spend_at_once(Spender("alice"), _several(1), 100, NOW)
    assert limits.spend(Spender("alice"), _several(1), 100, NOW) is None
    assert limits.spend_at_once(Spender("alice"), _several(1), 100, NOW) is None
    assert limits.spend(Spender("alice"), _several(1), 100, NOW) is None
    assert isinstance(limits.spend_at_once(Spender("alice"), _several(1), 100, NOW), HoldBack)


def test_the_event_loop_never_waits_for_another_worker(tmp_path: Path) -> None:
    import sqlite3

    limits = _limits(tmp_path)
    assert limits.spend(Spender("alice"), _several(1), 100, NOW) is None
    other = sqlite3.connect(tmp_path / "limits.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = time.monotonic()
    with pytest.raises(Busy):
        limits.spend_at_once(Spender("alice"), _several(1), 100, NOW)
    assert time.monotonic() - before < 4  # who waits, waits five seconds
    other.execute("ROLLBACK")
    assert limits.spend_at_once(Spender("alice"), _several(1), 100, NOW) is None
    spent = other.execute("SELECT sum(amount) FROM spent WHERE who = 'alice' AND bucket = 1").fetchone()
    assert spent == (2,)  # not the one that would have had to wait


def test_the_log_of_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    limits = _limits(tmp_path)
    waited = 0
    for number in range(3000):
        try:
            limits.spend_at_once(Spender("alice"), _several(1, number), 100, NOW + number)
        except Busy:
            limits.spend(Spender("alice"), _several(1, number), 100, NOW + number)
            waited += 1
    assert waited < 3000 / 100
    assert (tmp_path / "limits.sqlite3-wal").stat().st_size < 20_000_000
