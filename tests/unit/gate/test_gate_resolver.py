# One message's questions to the DNS end in time and are not many; only trouble is an error.

from __future__ import annotations

import time

import pytest

from todoku.gate.resolver import SYSTEM, Bounded, DnsTrouble, Found


def test_the_same_question_is_asked_once() -> None:
    asked: list[str] = []

    def ask(name: str, kind: str, seconds: float) -> Found:
        asked.append(name)
        return Found((b"x",))

    lookup = Bounded(ask, time.monotonic() + 5)
    assert lookup("a.example", "TXT") == lookup("A.example.", "TXT") == Found((b"x",))
    assert asked == ["a.example"]


def test_there_is_an_end_to_the_questions_and_to_the_time() -> None:
    def ask(name: str, kind: str, seconds: float) -> Found:
        assert seconds <= 4
        return Found(())

    lookup = Bounded(ask, time.monotonic() + 100, most=2)
    lookup("a.example", "A")
    lookup("b.example", "A")
    with pytest.raises(DnsTrouble, match="too many"):
        lookup("c.example", "A")
    with pytest.raises(DnsTrouble, match="no time"):
        Bounded(ask, time.monotonic())("a.example", "A")


def test_a_resolver_that_does_not_answer_is_trouble_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(DnsTrouble):
        SYSTEM.lookup(("192.0.2.1",), "outside.example", "TXT", 0.3)
    assert (
        time.monotonic() - began < 30
    )  # a third of a second; without the limit a resolver is asked for longer


@pytest.mark.parametrize("name", ["x" * 64 + ".example", "a..example", ".".join(["x" * 60] * 6)])
def test_a_name_that_cannot_be_does_not_exist(name: str) -> None:
    assert SYSTEM.lookup(("192.0.2.1",), name, "TXT", 0.3) == Found((), exists=False)
