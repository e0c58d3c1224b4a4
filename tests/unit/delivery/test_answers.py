# The gate was killed before it heard whether Postfix took a copy. A wrong "yes" loses it, a wrong "no" doubles it: so
# the answer is what the queue and the whole log say, and none at all while one of them cannot be read.

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine
from test_recorder import T, attempt, submitted

from todoku.delivery.answers import BETWEEN, SETTLED, Answers
from todoku.delivery.entries import Entry, Handed, Named, Removed
from todoku.delivery.queue import Waiting
from todoku.delivery.record import Recorder
from todoku.gate.asked import Agent

QUEUE_ID = "4hAbcdEfghz1"


class Bench:
    """An agent that is asked, with a clock, a queue and a log that the test has."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.gate, self.folder = Agent(folder), folder
        self.now, self.read, self.queue = T, True, [""]
        self.recorder = Recorder(engine)
        self.answers = Answers(engine, folder, lambda: self.read, self._waiting, lambda: self.now)

    def _waiting(self) -> Sequence[Waiting]:
        return [Waiting(each, "active", T, 1, "", (), None) for each in self.queue]

    def ask(self) -> None:
        assert self.gate.has(QUEUE_ID) is None
        os.utime(self.folder / f"queued-{QUEUE_ID}.asked", (self.now, self.now))

    def later(self, seconds: float) -> bool | None:
        self.now += seconds
        self.answers()
        return self.gate.has(QUEUE_ID)

    def log(self, *entries: Entry) -> None:
        self.recorder.record(entries)


@pytest.fixture
def bench(engine: Engine, tmp_path: Path) -> Bench:
    folder = tmp_path / "exchange"
    folder.mkdir()
    made = Bench(engine, folder)
    made.ask()
    return made


def test_what_is_in_the_queue_was_taken(bench: Bench) -> None:
    bench.queue.append(QUEUE_ID)
    assert bench.later(0) is True
    bench.gate.forget(QUEUE_ID)
    assert list(bench.folder.iterdir()) == []


@pytest.mark.parametrize(
    "entry", [attempt(QUEUE_ID, "carol@mailbox.example", "sent", "250 Ok"), Removed(T, QUEUE_ID)]
)
def test_what_has_left_the_queue_was_taken(bench: Bench, entry: Entry) -> None:
    bench.log(*submitted(QUEUE_ID), entry)
    assert bench.later(0) is True


def test_what_was_only_begun_was_not_and_that_is_said_late(bench: Bench) -> None:
    bench.log(  # smtpd and cleanup say so much before anything is in the queue
        Handed(T, QUEUE_ID, "forward/smtpd", "localhost[127.0.0.1]", ""), Named(T, QUEUE_ID, "<one@x>")
    )
    assert bench.later(SETTLED - 1) is None
    assert bench.later(1) is None  # the first look
    assert bench.later(BETWEEN - 1) is None
    assert bench.later(1) is False


def test_what_leaves_between_the_two_looks_was_taken(bench: Bench) -> None:
    assert bench.later(SETTLED) is None
    bench.log(*submitted(QUEUE_ID), Removed(T, QUEUE_ID))
    assert bench.later(BETWEEN) is True


def test_there_is_no_answer_before_the_log_is_read(bench: Bench) -> None:
    bench.read = False
    for _ in range(5):
        assert bench.later(SETTLED) is None
    bench.log(*submitted(QUEUE_ID), Removed(T, QUEUE_ID))
    bench.read = True
    assert bench.later(1) is True


def test_there_is_no_answer_while_postfix_does_not_tell_its_queue(bench: Bench) -> None:
    def away() -> Sequence[Waiting]:
        raise OSError("postqueue: fatal: Queue report unavailable - mail system is down")

    bench.answers._waiting = away
    with pytest.raises(OSError, match="mail system is down"):
        bench.later(SETTLED)
    assert bench.gate.has(QUEUE_ID) is None


def test_nobody_is_asked_where_nothing_was_asked(engine: Engine, tmp_path: Path) -> None:
    def never() -> Sequence[Waiting]:
        raise AssertionError

    Answers(engine, tmp_path, lambda: True, never)()


def test_what_nobody_came_back_for_is_removed(bench: Bench) -> None:
    bench.later(6 * 86400)
    assert list(bench.folder.glob("queued-*")) == [bench.folder / f"queued-{QUEUE_ID}.asked"]  # asked anew


@pytest.mark.parametrize("queue_id", ["", "../../etc/passwd", "a b", "x" * 41])
def test_what_is_no_queue_id_is_nothing_that_postfix_has(bench: Bench, queue_id: str) -> None:
    assert bench.gate.has(queue_id) is False
