# Behind the door: passwords can be tried, few of them, and nothing else is told.

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.quarantine.service import Service
from todoku.quarantine.tries import MOST_WRONG, Tries

LINK = "L" * 43


class Keeper:
    """One message, that opens with "pw"."""

    def __init__(self) -> None:
        self.released = 0

    def find(self, token: str) -> tuple[Any, int] | None:
        return (SimpleNamespace(id="job"), 0) if token == LINK else None

    def release(self, _held: object, _number: int, passwords: Sequence[str]) -> Any:
        self.released += 1
        if passwords == ["full"]:
            raise OSError(28, "No space left on device")
        return SimpleNamespace(outcome="clean" if "pw" in passwords else "wrong")

    def look(self) -> None:
        pass


def service() -> Service:
    return Service(Keeper(), no_sooner=0.0)  # type: ignore[arg-type]


def test_a_few_wrong_ones_an_hour_for_a_link_that_exists_and_for_one_that_does_not() -> None:
    async def run(token: str) -> list[str]:
        made = service()
        return [await made.answer(token, [str(number)]) for number in range(MOST_WRONG + 2)]

    expected = ["wrong"] * MOST_WRONG + ["too-often"] * 2
    assert asyncio.run(run(LINK)) == expected
    assert asyncio.run(run("M" * 43)) == expected


def test_after_an_hour_again_and_links_that_are_made_up_push_out_no_real_one() -> None:
    tries = Tries()
    for second in range(MOST_WRONG):
        tries.wrong(LINK, float(second), real=True)
    for number in range(6000):
        tries.wrong(f"{number}", 10.0, real=False)
    assert not tries.allows(LINK, 20.0)
    assert len(tries._made_up) == 5000
    assert tries.allows(LINK, 3601.0)
    tries.tidy(8000.0)
    assert not tries._real


def test_a_full_disk_is_no_verdict() -> None:
    assert asyncio.run(service().answer(LINK, ["full"])) == "later"


async def over_the_socket(path: Path, asked: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(asked)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def talk(*asked: bytes) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        serving = asyncio.get_running_loop().create_task(service().serve(path))
        while not path.exists():
            await asyncio.sleep(0.01)
        answers = [await over_the_socket(path, each) for each in asked]
        assert path.stat().st_mode & 0o777 == 0o660
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        return answers


def test_over_the_socket() -> None:
    good = json.dumps({"token": LINK, "passwords": ["pw"]}).encode() + b"\n"
    bad = [b"", b"\n", b"[]\n", b"{}\n", b'{"token": 1, "passwords": []}\n', b"\xff\n", b"x" * 20_000,
           json.dumps({"token": LINK, "passwords": ["x"] * 6}).encode() + b"\n"]  # fmt: skip
    answers = asyncio.run(talk(good, *bad, good))
    assert json.loads(answers[0]) == {"outcome": "clean"}
    assert answers[1:-1] == [b""] * len(bad)
    assert answers[-1] == answers[0]


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_is_asked_the_next_question_is_answered(asked: bytes) -> None:
    good = json.dumps({"token": LINK, "passwords": ["pw"]}).encode() + b"\n"
    assert json.loads(asyncio.run(talk(asked, good))[-1]) == {"outcome": "clean"}
