# The free plan takes 10 messages a minute and 200 a day. Who sends more gets 455, and personal mail waits behind it.

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from campaign_place import Clock, settings, subscribe

from todoku.campaign import campaigns, relayed
from todoku.campaign.opened import Opened
from todoku.campaign.pace import DAY, HOUR, MINUTE, Pace, Window
from todoku.campaign.template import Source
from todoku.delivery.entries import Heard
from todoku.delivery.relay_log import SOFT_BOUNCE
from todoku.gate.limits import Limits, Spender
from todoku.settings import Settings

START = 1_790_000_000.0
WIDE = {"per_minute": 18000, "per_day": 50000, "per_month": 1_500_000}


def with_share(share: int, **more: Any) -> Settings:
    return Settings.model_validate(
        {**settings(**more).model_dump(mode="json"), "gate": {"reserved_share": share}}
    )


def pace(tmp_path: Path, given: Settings) -> Pace:
    assert given.campaign is not None
    return Pace(given.campaign, Limits(given, tmp_path / "limits"))


def most_in(times: list[int], window: int) -> int:
    first = 0
    most = 0
    for last, at in enumerate(times):
        while times[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(("share", "minute", "day"), [(0, 10, 200), (20, 8, 160)])
def test_the_trial_plan_is_kept_to_the_message_over_a_moved_clock(
    tmp_path: Path, share: int, minute: int, day: int
) -> None:
    paced = pace(tmp_path, with_share(share, plan={}))
    times: list[int] = []
    now = START
    while now < START + 2.2 * DAY:
        allowed = paced.allow(200, now)
        times += [int(now)] * allowed.count
        now = now + 1 if allowed.count else max(now + 0.5, allowed.until)
    assert most_in(times, MINUTE) == minute
    assert most_in(times, DAY) == day
    assert 2 * day <= len(times) <= 3 * day  # and what the plan has is used


def test_personal_mail_has_its_share_whatever_a_campaign_sends(tmp_path: Path) -> None:
    given = with_share(20, plan={"per_minute": 10, "per_day": 200})
    paced, gate = pace(tmp_path, given), Limits(given, tmp_path / "limits")
    assert paced.allow(100, START).count == 8
    assert paced.allow(100, START).count == 0
    person = Spender("alice@hoge.example")
    assert gate.spend(person, ["a@mailbox.example"], 1000, START) is None
    assert gate.spend(person, ["b@mailbox.example"], 1000, START) is None
    assert gate.spend(person, ["c@mailbox.example"], 1000, START) is not None  # the relay would say 455


def test_what_personal_mail_has_used_is_not_there_for_a_campaign(tmp_path: Path) -> None:
    given = with_share(20, plan={"per_minute": 10, "per_day": 200})
    gate = Limits(given, tmp_path / "limits")
    for each in "abcde":
        gate.spend(Spender("alice@hoge.example"), [f"{each}@mailbox.example"], 1000, START)
    assert pace(tmp_path, given).allow(100, START).count == 3


def test_what_was_allowed_and_not_sent_is_given_back(tmp_path: Path) -> None:
    paced = pace(tmp_path, with_share(0, plan={}))
    assert paced.allow(100, START).count == 10
    paced.give_back(4, START + 1)
    assert paced.allow(100, START + 1).count == 4


def test_counts_survive_a_restart(opened: Opened, news: int, clock: Clock, tmp_path: Path) -> None:
    given = settings(plan=WIDE, per_hour=50, per_second=100, per_domain_per_minute=3)
    for number in range(4):
        subscribe(opened, news, f"p{number}@mailbox.example")
    campaigns.create(opened, "spring", "news", Source("Hi", "x"))
    with opened.write() as connection:
        connection.exec_driver_sql("UPDATE recipient SET state = 'sent', settled = ?", (clock.now - 10,))
    paced = pace(tmp_path, given)
    with opened.read() as connection:
        paced.load(connection, clock.now)
    assert paced.allow(100, clock.now).count == 46
    assert paced.domain_until("mailbox.example", clock.now) > clock.now
    assert paced.domain_until("other.example", clock.now) == 0
    assert paced.allow(100, clock.now + HOUR + 100).count == 50


def test_seconds_are_kept_to(tmp_path: Path) -> None:
    paced = pace(tmp_path, settings(plan=WIDE, per_second=7))
    sent = sum(paced.allow(1000, START + tenth / 10).count for tenth in range(101))
    assert sent == 7 + 70


def test_a_new_domain_is_warmed_up_without_doubling(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    given = settings(plan=WIDE, per_second=1000, warm_up=20)
    paced = pace(tmp_path, given)
    with opened.read() as connection:
        paced.load(connection, clock.now)
    days = []
    midnight = clock.now - clock.now % DAY
    for day in range(4):
        now = midnight + day * DAY + 3600
        days.append(sum(paced.allow(1000, now + each).count for each in range(5)))
        assert paced.allow(1, now + 10).until == midnight + (day + 1) * DAY
    assert days == [20, 30, 45, 67]


@pytest.mark.parametrize(
    ("zone", "hours", "hour", "open_at"),
    [
        ("UTC", "21:00-08:00", 22, 8),
        ("UTC", "21:00-08:00", 7, 8),
        ("UTC", "12:00-14:00", 13, 14),
        ("UTC", "21:00-08:00", 9, 0),
        ("Asia/Tokyo", "21:00-08:00", 14, 23),
    ],
)
def test_quiet_hours_are_quiet(tmp_path: Path, zone: str, hours: str, hour: int, open_at: int) -> None:
    paced = pace(tmp_path, settings(plan=WIDE, quiet_hours=hours, time_zone=zone))
    midnight = START - START % DAY
    allowed = paced.allow(1, midnight + hour * HOUR)
    if not open_at:
        assert allowed.count == 1
        return
    assert allowed.count == 0
    assert (allowed.until - midnight) % DAY == open_at * HOUR
    assert allowed.until > midnight + hour * HOUR


def test_gmails_recipe_ten_minutes_of_nothing_then_one_at_a_time(tmp_path: Path) -> None:
    paced = pace(tmp_path, settings(plan=WIDE, connections=3))
    assert paced.domain_until("gmail.com", START) == 0
    assert paced.domain_until("gmail.com", START) == 0
    paced.arrived("gmail.com", "4.7.28 Gmail has detected an unusual rate of mail", START)
    paced.arrived("gmail.com", "", START)
    assert paced.domain_until("gmail.com", START + 1) == START + 600
    assert paced.domain_until("mailbox.example", START + 1) == 0
    assert paced.domain_until("gmail.com", START + 601) == 0
    assert paced.domain_until("gmail.com", START + 602) > 0  # one is on its way
    paced.arrived("gmail.com", "", START + 603)
    assert paced.domain_until("gmail.com", START + 665) == 0
    assert paced.domain_until("gmail.com", START + 665) == 0
    assert paced.domain_until("gmail.com", START + 665) > 0


def test_gmails_recipe_is_kept_to_over_a_restart(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    given = settings(plan=WIDE, connections=3)
    before = pace(tmp_path, given)
    assert before.domain_until("gmail.com", clock.now) == 0
    before.arrived("gmail.com", "4.7.28 Gmail has detected an unusual rate of mail", clock.now)
    with opened.write() as connection:
        before.keep(connection, clock.now)
    again = pace(tmp_path, given)
    with opened.read() as connection:
        again.load(connection, clock.now + 5)
    assert again.domain_until("gmail.com", clock.now + 5) == clock.now + 600
    assert again.domain_until("gmail.com", clock.now + 601) == 0
    assert again.domain_until("gmail.com", clock.now + 602) > 0  # one at a time
    later = pace(tmp_path, given)
    with opened.read() as connection:
        later.load(connection, clock.now + 665)
    assert [later.domain_until("gmail.com", clock.now + 665) > 0 for _ in range(3)] == [False, False, True]


def test_what_gmail_says_to_the_relay_is_kept_to_as_well(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    paced = pace(tmp_path, settings(plan=WIDE, connections=3))
    too_fast = "421-4.7.28 Gmail has detected an unusual rate of mail"

    def heard(at: float, to: str, words: str) -> None:
        relayed.hear(opened, [Heard(at, "", "x", SOFT_BOUNCE, f"somebody@{to}", "m@hoge.example", words, "")])
        with opened.write() as connection:
            paced.admit(connection, [], clock.now)

    heard(clock.now - 5, "mailbox.example", "452 4.2.2 full")
    heard(clock.now - 3600, "yahoo.example", too_fast)  # long ago
    heard(clock.now - 5, "gmail.com", too_fast)
    assert paced.domain_until("mailbox.example", clock.now) == 0
    assert paced.domain_until("yahoo.example", clock.now) == 0
    assert paced.domain_until("gmail.com", clock.now) == clock.now + 600
    begun, clock.now = clock.now, clock.now + 60
    heard(clock.now, "gmail.com", too_fast)  # of a message from before
    assert paced.domain_until("gmail.com", clock.now) == begun + 600
    assert paced.domain_until("gmail.com", begun + 601) == 0
    assert paced.domain_until("gmail.com", begun + 602) > 0  # one at a time


def test_a_window_forgets_only_what_has_left_it() -> None:
    window = Window(5, MINUTE)
    for second in range(5):
        window.add(START + second, 1)
    assert window.room(START + 59) == 0
    assert START + 60 < window.until(START + 5) <= START + 62
    assert window.room(START + 61.5) == 1


def test_counters_that_cannot_be_used_stop_nobody_from_finding_out(tmp_path: Path) -> None:
    (tmp_path / "limits").write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        pace(tmp_path, settings()).allow(1, START)
