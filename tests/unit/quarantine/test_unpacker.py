# What a stranger has packed is unpacked in a process of its own: whatever becomes of that one, there is an answer.

from __future__ import annotations

import io
import os
import signal
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from archives import aes, plain

from todoku.quarantine import unpacker
from todoku.quarantine.archive import Began, Bounds, Broken, Event, TooMuch, WrongPassword
from todoku.quarantine.unpacker import Unpacker

PDF = bytes(range(256)) * 3000


@pytest.fixture
def unpacking() -> Iterator[Unpacker]:
    made = unpacker.start(None, Bounds())
    yield made
    made.close()


def ask(unpacking: Unpacker, raw: bytes, *passwords: bytes, seconds: float = 60) -> list[Event]:
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        return list(unpacking.ask(file, passwords, seconds))


def test_everything_comes_and_a_wrong_password_is_said(unpacking: Unpacker) -> None:
    raw = aes({"見積.txt": PDF, "b": b""})
    events = ask(unpacking, raw, b"pw")
    assert [each for each in events if isinstance(each, Began)] == [Began("見積.txt"), Began("b")]
    assert b"".join(each for each in events if isinstance(each, bytes)) == PDF
    with pytest.raises(WrongPassword):
        ask(unpacking, raw, b"no")
    with pytest.raises(Broken):
        ask(unpacking, b"nothing", b"pw")
    assert ask(unpacking, raw, b"pw") == events  # it is there for the next


def test_one_that_is_killed_is_an_answer_too(unpacking: Unpacker) -> None:
    raw = aes({"a": os.urandom(8_000_000)})
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        events = unpacking.ask(file, [b"pw"], 60)
        next(events)  # it is at work, and waits for us to read on
        (child,) = Path(f"/proc/{unpacking.pid}/task/{unpacking.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        with pytest.raises(TooMuch):
            list(events)
    assert ask(unpacking, aes({"a": PDF}), b"pw")


def test_what_wants_more_memory_than_there_is_for_it_is_given_up_and_the_next_is_opened(
    unpacking: Unpacker,
) -> None:
    # LZMA says itself how much memory it is to be unpacked with, up to 4 GiB, in four octets of the archive.
    raw = bytearray(plain({"greedy": b"a" * 100_000}, zipfile.ZIP_LZMA))
    with pytest.raises(Broken):  # it is read to its end, and nothing in it is protected
        ask(unpacking, bytes(raw), b"pw")
    at = raw.index(b"\x05\x00\x5d") + 3
    raw[at : at + 4] = (2 * unpacker.MEMORY).to_bytes(4, "little")
    with pytest.raises(TooMuch):
        ask(unpacking, bytes(raw), b"pw")
    assert ask(unpacking, aes({"a": PDF}), b"pw")


def test_it_can_write_no_file_and_holds_no_core(unpacking: Unpacker) -> None:
    assert ask(unpacking, aes({"a": PDF}), b"pw")  # it has begun
    limits = Path(f"/proc/{unpacking.pid}/limits").read_text()
    for name in ("Max file size", "Max core file size"):
        assert f"{name:<26}0 " in limits


def test_it_has_no_descriptor_of_the_service_and_all_of_its_own_few() -> None:
    with ExitStack() as held:
        for _ in range(40):
            held.enter_context(tempfile.TemporaryFile())
        made = unpacker.start(None, Bounds())
        held.callback(made.close)
        assert ask(made, aes({"a": PDF}), b"pw")
        assert {path.name for path in Path(f"/proc/{made.pid}/fd").iterdir()} == {"0", "1", "2", "3"}


def test_nobody_waits_and_it_ends(unpacking: Unpacker) -> None:
    children = Path(f"/proc/{unpacking.pid}/task/{unpacking.pid}/children")
    with tempfile.TemporaryFile() as file:
        file.write(aes({"a": os.urandom(8_000_000)}))
        file.flush()
        events = unpacking.ask(file, [b"pw"], 60)
        next(events)
        assert children.read_text().split()
        events.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 30
    while children.read_text().split() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children.read_text().split()


def test_the_answers_are_read_strictly() -> None:
    with pytest.raises(TooMuch):
        unpacker._exactly(io.BytesIO(b"abc"), 4)
