# What was taken in while the relay was away leaves with what a campaign sends: together they would be more than the
# plan of a day has, and the relay would say 455 to both, though each of them kept to its own counters.

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
from campaign_place import settings
from hypothesis import given
from hypothesis import strategies as st

from todoku.campaign.pace import DAY, HOUR, MINUTE, Pace
from todoku.campaign.plan_room import PlanRoom
from todoku.delivery import left as leaving
from todoku.delivery.left import MONTH, Left
from todoku.delivery.way_out import WayOut, said
from todoku.gate.limits import Granted, Limits, Spender
from todoku.settings import Settings

START = 1_790_000_000.0
TRIAL = {"per_minute": 10, "per_day": 200, "per_month": 3000}
PERSON = Spender("alice@hoge.example")


class Host:
    """The gate, the queue with its way out, the agent's count of it, and the sender of bulk mail, with their files."""

    def __init__(self, folder: Path, plan: dict[str, int], share: int = 20) -> None:
        self.settings = with_share(plan, share)
        self.table_folder, self.queue_folder, self.bulk_folder = (folder / name for name in "abc")
        for each in (self.table_folder, self.queue_folder, self.bulk_folder):
            each.mkdir()
        self.gate = Limits(self.settings, folder / "limits")
        self.bulk = PlanRoom(self.settings, folder / "limits", self.queue_folder, self.bulk_folder)
        self.now, self.left = START, Left()
        self.waiting: deque[float] = deque()
        self.door = WayOut(
            lambda: self.left,
            self.settings.relay.plan,
            lambda: None,
            self.table_folder,
            self.bulk_folder,
            self.queue_folder,
            lambda: self.now,
            lambda: None,
        )

    def submit(self) -> bool:
        """A person's message to one recipient: whether the gate takes it."""
        taken = self.gate.spend(PERSON, [f"p{self.now}@mailbox.example"], 1000, self.now) is None
        if taken:
            self.waiting.append(self.now)
        return taken

    def leave(self) -> bool:
        """The next in the queue leaves, if the way out is open; the agent hears of it."""
        self.door()
        if not self.waiting or said(self.table_folder):
            return False
        self.waiting.popleft()
        self.left = self.left.with_more([(self.now, 1)])
        self.door()
        return True


def with_share(plan: dict[str, int], share: int) -> Settings:
    """Nobody has a limit of his own that would be reached before."""
    gate = {"reserved_share": share, "recipients_per_minute": 9999, "recipients_per_day": 9999}
    gate["new_recipients_per_day"] = 9999
    return Settings.model_validate({**settings(plan=plan).model_dump(mode="json"), "gate": gate})


def most_in(times: list[float], window: int) -> int:
    """The most of any `window` seconds."""
    return max(sum(1 for each in times if at - window < each <= at) for at in times)


@pytest.mark.parametrize("share", [0, 20])
def test_a_queue_of_yesterday_and_a_campaign_of_today_are_one_plan(tmp_path: Path, share: int) -> None:
    host = Host(tmp_path, TRIAL, share)
    while len(host.waiting) < 150:  # the relay is away: all of it is taken in, and waits
        host.now += 7
        host.submit()
    host.now += DAY + HOUR  # the gate has forgotten it, and the relay is back
    assert host.gate.grant(1, host.now).count == 1
    host.bulk.give_back(1, host.now)
    taken: list[float] = []
    sent_in_bulk = 0
    end = host.now + 2.5 * DAY
    while host.now < end:
        if host.leave():
            taken.append(host.now)
        bulk = host.bulk.grant(50, host.now).count
        sent_in_bulk += bulk
        taken += [host.now] * bulk
        host.now += 7 if host.waiting else 61
    assert not host.waiting  # nobody waits for ever
    assert most_in(taken, DAY) <= 200
    # What bulk mail has sent when the queue begins to leave cannot be taken back; from then on it gives way.
    assert most_in([each for each in taken if each >= taken[0] + MINUTE], MINUTE) <= 10
    assert sent_in_bulk > 200 * (100 - share) // 100  # and what the plan has is used


def test_the_queue_waits_for_what_bulk_mail_has_used(tmp_path: Path) -> None:
    host = Host(tmp_path, {**TRIAL, "per_minute": 200}, 0)
    assert (
        host.bulk.grant(500, host.now).count == 200 - 14
    )  # what may leave before the way out is seen to be shut
    host.waiting.append(host.now)
    assert not host.leave()
    shut = said(host.table_folder)
    assert shut is not None
    assert shut.window == "day"
    assert START + DAY <= shut.until <= START + DAY + 600
    host.bulk.give_back(10, host.now)  # less than it had asked for
    assert host.leave()
    host.bulk.give_back(-10, host.now)  # another machine's
    assert not host.leave()


def test_what_has_left_the_queue_is_not_there_for_bulk_mail_and_it_is_said_until_when(tmp_path: Path) -> None:
    host = Host(tmp_path, TRIAL)
    host.left = Left().with_more([(START, 155)])
    host.door()
    later = START + 120
    assert host.bulk.grant(50, later).count == 5
    refused = host.bulk.grant(50, later + MINUTE + 2)
    assert refused.count == 0
    assert "200" not in refused.words and "the relay has taken 160 emails in 24 hours" in refused.words
    assert START + DAY <= refused.until <= START + DAY + 600
    # and nothing of what was not granted is kept by the gate
    assert [host.gate.grant(n, later + 3 * MINUTE).count for n in (8, 8)] == [8, 0]


def test_who_begins_anew_and_who_sends_beside_know_what_was_sent(tmp_path: Path) -> None:
    host = Host(tmp_path, {**TRIAL, "per_minute": 200}, 0)
    other = PlanRoom(host.settings, tmp_path / "other", host.queue_folder, host.bulk_folder)
    assert host.bulk.grant(100, START).count == 100
    assert other.grant(100, START + 1).count == 86
    assert host.bulk.grant(1, START + 2).count == 0
    assert leaving.read(host.bulk_folder, START).used(MONTH, START + 2) == 186
    assert (host.bulk_folder / "left").stat().st_mode & 0o777 == 0o644


def test_on_a_full_disk_nothing_is_granted_and_nothing_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path, TRIAL, 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(leaving, "say", full)
        with pytest.raises(OSError, match="No space left"):
            host.bulk.grant(10, START)
    assert host.bulk.grant(10, START) == Granted(10, 0, host.gate.grant(0, START).words)


def test_a_file_that_says_nonsense_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    host = Host(tmp_path, TRIAL, 0)
    (host.queue_folder / "left").write_text('{"60": {"1": -5}}')
    assert [host.bulk.grant(3, START + n).count for n in range(3)] == [3, 3, 3]
    assert caplog.text.count("what has left cannot be read") == 1


def test_the_pace_of_a_campaign_keeps_to_it(tmp_path: Path) -> None:
    host = Host(tmp_path, TRIAL)
    assert host.settings.campaign is not None
    paced = Pace(host.settings.campaign, host.bulk)
    host.left = Left().with_more([(START - 30, 6)])
    host.door()
    allowed = paced.allow(100, START)
    assert allowed.count == 1  # of 8 a minute: another may have left that nobody has heard of yet
    paced.give_back(1, START)
    assert paced.allow(100, START).count == 1


@given(st.lists(st.tuples(st.integers(0, 3 * DAY), st.integers(-3, 30)), min_size=1, max_size=30))
def test_whatever_is_given_back_the_file_stays_one_that_is_understood(
    tmp_path_factory: pytest.TempPathFactory, counted: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("left")
    left = Left()
    for after, count in counted:
        left = left.with_more([(START + after, count)])
    leaving.say(left, folder)
    assert leaving.read(folder, START + 3 * DAY) == left
