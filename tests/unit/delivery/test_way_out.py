# The relay never has to say that a day's or a month's plan is used up: what it took is counted as the log tells it, and
# the way out is shut before, and opened when there is room. Killed at any moment, Postfix is told once more.

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete
from test_recorder import T, attempt, submitted

from todoku.delivery import left as leaving
from todoku.delivery import opener
from todoku.delivery.__main__ import main as agent_main
from todoku.delivery.entries import Active, Entry
from todoku.delivery.follow import Folder
from todoku.delivery.left import DAY, MONTH, Left
from todoku.delivery.queue import Waiting, meaning, with_room
from todoku.delivery.record import LEFT, Recorder
from todoku.delivery.way_out import Shut, WayOut, judge
from todoku.settings.outside import RelayPlan
from todoku.store import StoreError, ledger
from todoku.store import ledger_schema as schema

PLAN = RelayPlan(
    per_minute=60, per_day=100, per_month=1000
)  # of which 4 may leave before the way out is shut


def test_a_day_and_a_month_count_what_left_in_them_and_forget_the_rest() -> None:
    left = Left().with_more([(T, 3), (T + 1, 2), (T - 2 * DAY, 7), (T - 32 * DAY, 100)])
    assert (left.used(DAY, T + 1), left.used(MONTH, T + 1)) == (5, 12)
    assert left.used(DAY, T + DAY) == 5  # never less than what any 24 hours have
    assert left.used(DAY, T + DAY + 602) == 0
    assert left.used(MONTH, T + MONTH + 7202) == 0


@given(st.lists(st.tuples(st.integers(0, 40 * DAY), st.integers(1, 50)), max_size=40), st.integers(1, 60))
def test_there_is_room_at_the_time_that_is_told_and_not_a_bucket_before(
    events: list[tuple[int, int]], most: int
) -> None:
    left = Left().with_more((T + after, amount) for after, amount in events)
    now = T + max((after for after, _ in events), default=0)
    for window, bucket in ((DAY, 600), (MONTH, 7200)):
        if left.used(window, now) < most:
            continue
        until = left.room_from(window, most, now)
        assert left.used(window, until) < most <= left.used(window, until - bucket)


def test_it_is_the_same_after_it_was_kept_and_nothing_else_is_taken_for_it() -> None:
    left = Left().with_more([(T, 3), (T + 7000, 2)])
    assert Left.of(left.text()) == left
    for other in ("", "[]", "7", '{"86400": 1}', '{"x": {}}', '{"86400": {"1": null}}'):
        with pytest.raises(ValueError):
            Left.of(other)


def test_what_the_relay_took_is_counted_with_its_size_and_once_whatever_is_killed(engine: Engine) -> None:
    large = "4bbbbbbbbbbbb"
    entries: list[Entry] = [
        *submitted("4aaaaaaaaaaaa"),
        attempt("4aaaaaaaaaaaa", "carol@mailbox.example", "sent", "250 Ok"),
        attempt("4aaaaaaaaaaaa", "dave@mailbox.example", "deferred", "421 Later"),
        attempt("4aaaaaaaaaaaa", "bob@hoge.example", "sent", "250 2.0.0 Saved", T + 1, "lmtp"),
        attempt("4aaaaaaaaaaaa", "eve@mailbox.example", "bounced", "254 4.7.1 Suppression for user x"),
        Active(T, large, "alice@hoge.example", 4_000_001, 1),
        attempt(large, "carol@mailbox.example", "sent", "250 Ok"),
    ]
    recorder = Recorder(engine)
    assert recorder.takes(entries)  # done and undone
    assert recorder.left() == Left()
    recorder.record(entries, {"mail log": "1"})
    assert recorder.left().used(DAY, T + 2) == 1 + 3
    assert Recorder(engine).left() == recorder.left()
    later = Recorder(engine)
    later.record([attempt("4aaaaaaaaaaaa", "dave@mailbox.example", "sent", "250 Ok", T + 60)])
    assert later.left().used(DAY, T + 60) == Recorder(engine).left().used(DAY, T + 60) == 5


def test_a_ledger_of_before_is_counted_from_what_is_in_it(engine: Engine) -> None:
    Recorder(engine).record(
        [*submitted("4aaaaaaaaaaaa"), attempt("4aaaaaaaaaaaa", "carol@mailbox.example", "sent", "250 Ok")]
    )
    with ledger.write(engine) as connection:
        connection.execute(delete(schema.checkpoint).where(schema.checkpoint.c.source == LEFT))
    assert Recorder(engine).left().used(DAY, T + 2) == 1


def test_what_could_not_be_written_does_not_count(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise StoreError("full")

    recorder = Recorder(engine, refuse)
    with pytest.raises(StoreError):
        recorder.record([*submitted("4a"), attempt("4a", "carol@mailbox.example", "sent", "250 Ok")])
    assert recorder.left() == Left()


def test_the_way_out_is_shut_before_the_plan_is_used_up_and_says_when_there_is_room() -> None:
    assert judge(Left().with_more([(T, 95)]), PLAN, T) is None
    shut = judge(Left().with_more([(T, 96)]), PLAN, T)
    assert shut is not None
    assert (shut.window, shut.most) == ("day", 100)
    assert T + DAY <= shut.until <= T + DAY + 600
    month = judge(Left().with_more([(T - 3 * DAY, 950), (T, 96)]), PLAN, T)
    assert month is not None
    assert month.window == "month"  # which lasts longer
    assert Shut.of(month.line()) == Shut("month", 1000, float(int(month.until + 0.999)))
    # Never all of a small plan.
    assert judge(Left(), RelayPlan(per_minute=1, per_day=1, per_month=1), T) is None


class Outside:
    """The agent's surroundings."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.left = folder, T, Left()
        self.reloads = self.tries = 0
        self.fails = self.ledger_is_away = False
        self.bulk, self.told = folder / "bulk", folder / "told"
        self.bulk.mkdir()
        self.told.mkdir()
        self.look = self.agent()

    def agent(self) -> Callable[[], None]:
        return WayOut(
            self.what_left,
            PLAN,
            self.reload,
            self.folder,
            self.bulk,
            self.told,
            lambda: self.now,
            self.try_again,
        ).__call__

    def what_left(self) -> Left:
        if self.ledger_is_away:
            raise StoreError("the ledger is away")
        return self.left

    def reload(self) -> None:
        if self.fails:
            raise OSError("postfix reload: no")
        self.reloads += 1

    def try_again(self) -> None:
        self.tries += 1

    @property
    def table(self) -> str:
        return (self.folder / "table").read_text()


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    (tmp_path / "table").write_text("")
    return Outside(tmp_path)


def test_it_is_shut_once_and_opened_once_and_then_what_waits_is_tried(outside: Outside) -> None:
    outside.look()
    assert outside.reloads == 0
    outside.left = Left().with_more([(T, 99)])
    for _ in range(3):
        outside.look()
    assert (outside.reloads, outside.tries) == (1, 0)
    assert outside.table.startswith("outside day 100 2026-11-")
    assert (outside.folder / "table").stat().st_mode & 0o777 == 0o644
    outside.now += DAY + 600
    outside.look()
    assert (outside.reloads, outside.tries, outside.table) == (2, 0, "")
    outside.now += 6
    for _ in range(3):
        outside.look()
    assert (outside.reloads, outside.tries) == (2, 1)


def test_where_a_change_may_be_missed_it_is_made_once_more_before_what_waits_is_tried(
    outside: Outside,
) -> None:
    look = WayOut(
        outside.what_left,
        PLAN,
        outside.reload,
        outside.folder,
        outside.bulk,
        outside.told,
        lambda: outside.now,
        outside.try_again,
        surely=False,
    )
    outside.left = Left().with_more([(T, 99)])
    told = []
    for seconds in (0, 1, 5, 6, 20):
        outside.now = T + seconds
        look()
        told.append(outside.reloads)
    assert told == [1, 1, 2, 2, 2]
    assert outside.table.startswith("outside day 100 ")
    told.clear()
    for seconds in (0, 1, 5, 6, 10, 20):
        outside.now = T + DAY + 600 + seconds
        look()
        told.append((outside.reloads, outside.tries))
    assert told == [(3, 0), (3, 0), (4, 0), (4, 0), (4, 1), (4, 1)]
    assert outside.table == ""


def test_what_postfix_could_not_be_told_is_told_again_also_by_the_next_agent(outside: Outside) -> None:
    outside.left, outside.fails = Left().with_more([(T, 99)]), True
    with pytest.raises(OSError, match="postfix reload: no"):
        outside.look()
    outside.fails = False
    outside.agent()()
    assert outside.reloads == 1
    outside.agent()()
    assert outside.reloads == 1


def test_what_bulk_mail_sends_past_the_queue_counts_and_what_left_the_queue_is_said(outside: Outside) -> None:
    outside.left = Left().with_more([(T, 50)])
    leaving.say(Left().with_more([(T, 45)]), outside.bulk)
    outside.look()
    assert outside.table == ""
    assert leaving.read(outside.told, T) == outside.left
    leaving.say(Left().with_more([(T, 46)]), outside.bulk)
    outside.look()
    assert outside.table.startswith("outside day 100 ")
    outside.left = Left()  # a day later, say
    outside.look()
    assert outside.table == ""
    assert leaving.read(outside.told, T) == Left()


def test_what_cannot_be_understood_is_told_once_and_what_was_known_stays(
    outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    leaving.say(Left().with_more([(T, 99)]), outside.bulk)
    outside.look()
    (outside.bulk / "left").write_text("nonsense")
    for _ in range(3):
        outside.look()
    assert outside.table.startswith("outside day 100 ")
    assert outside.reloads == 1
    assert caplog.text.count("how much bulk mail has left cannot be read") == 1


@given(
    st.one_of(
        st.binary(max_size=80),
        st.dictionaries(
            st.sampled_from(["60", "86400", "2678400", "7"]),
            st.dictionaries(st.integers().map(str), st.one_of(st.integers(), st.floats(), st.none())),
        ).map(lambda each: json.dumps(each).encode()),
    )
)
def test_whatever_the_other_side_says_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, octets: bytes
) -> None:
    folder = tmp_path_factory.mktemp("said")
    (folder / "left").write_bytes(octets)
    with suppress(ValueError):
        found = leaving.read(folder, T)
        judge(found, PLAN, T)
        assert all(amount >= 0 for amounts in found.amounts.values() for amount in amounts.values())


def test_no_link_no_pipe_and_nothing_endless_is_read(tmp_path: Path) -> None:
    (tmp_path / "other").write_text(Left().text())
    (tmp_path / "left").symlink_to(tmp_path / "other")
    with pytest.raises(OSError):
        leaving.read(tmp_path, T)
    (tmp_path / "left").unlink()
    os.mkfifo(tmp_path / "left")
    with pytest.raises(ValueError, match="is no file"):
        leaving.read(tmp_path, T)
    (tmp_path / "left").unlink()
    (tmp_path / "left").write_bytes(b" " * 300_000 + b"{}")
    with pytest.raises(ValueError, match="cannot be understood"):
        leaving.read(tmp_path, T)


def test_who_cannot_read_the_ledger_opens_when_it_is_time_and_not_before(outside: Outside) -> None:
    # Otherwise mail would wait until it is given up, because of a file that nobody can read.
    outside.left = Left().with_more([(T, 99)])
    outside.look()
    outside.ledger_is_away = True
    outside.look = outside.agent()
    for after, table, reloads in ((DAY - 60, "outside day", 1), (DAY + 600, "", 2), (DAY + 601, "", 2)):
        outside.now = T + after
        with pytest.raises(StoreError):
            outside.look()
        assert outside.table.startswith(table)
        assert bool(outside.table) == bool(table)
        assert outside.reloads == reloads


def test_an_agent_that_cannot_begin_opens_when_it_is_time(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "todoku.toml"
    settings.write_text("nonsense")
    monkeypatch.setattr(opener, "reload_postfix", outside.reload)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    arguments = ["--config", str(settings), "--way-out", str(outside.folder)]
    for until, table in ((time.time() + 3600, "outside day 100"), (time.time() - 5, "")):
        (outside.folder / "table").write_text(Shut("day", 100, until).line())
        assert agent_main(arguments) == 2
        assert outside.table.startswith(table)
        assert bool(outside.table) == bool(table)
    assert outside.reloads == 1
    outside.fails = True
    (outside.folder / "table").write_text(Shut("day", 100, 0.0).line())
    assert agent_main(arguments) == 2
    assert "whether mail may leave cannot be said: postfix reload: no" in capsys.readouterr().err
    outside.fails = False
    assert agent_main(arguments) == 2  # Postfix had not been told
    assert outside.reloads == 2


@given(st.text(max_size=60))
def test_whatever_the_table_holds_it_is_read_or_passed_over(text: str) -> None:
    found = Shut.of(text)
    assert found is None or isinstance(found.most, int)


def test_what_waits_for_the_plan_is_next_when_there_is_room() -> None:
    def waits(reason: str) -> Waiting:
        return Waiting("4a", "deferred", 1.0, 1, "a@b", (("c@d", reason),), 7.0)

    for_the_plan, for_the_relay = waits("4.7.1 the relay's plan of the day is used up"), waits("421 Later")
    assert [each.next for each in with_room([for_the_plan, for_the_relay], T)] == [T, 7.0]
    assert [each.next for each in with_room([for_the_plan, for_the_relay], None)] == [7.0, 7.0]
    assert (
        meaning(for_the_plan.recipients[0][1]) == "the relay's plan is used up; it leaves once there is room"
    )


def test_the_parent_has_postfix_begin_anew_and_says_why_it_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opener, "_PAUSE", 0.0)
    (tmp_path / "mail.log").write_bytes(b"a line\n")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    serving = threading.Thread(target=opener.serve, args=(ours, Folder(tmp_path / "mail.log")))
    program = tmp_path / "postfix"
    refusal = f"[ -e {tmp_path}/ok ] || {{ echo no such mail system >&2; exit 1; }}"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{refusal}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    serving.start()
    try:
        borrowed = opener.Borrowed(theirs, "mail.log")
        with pytest.raises(OSError, match="postfix reload: no such mail system"):
            borrowed.reload()
        (tmp_path / "ok").touch()
        borrowed.reload()
        assert (tmp_path / "asked").read_text() == "reload\nreload\n"
        assert borrowed.open("mail.log").read() == b"a line\n"
    finally:
        theirs.close()
        serving.join()
