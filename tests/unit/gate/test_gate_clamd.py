# Whatever clamd says, or whoever answers in its place, is a verdict that is surely one, or an error in words.

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from todoku.gate import clamd
from todoku.gate.clamd import ClamdError, Clean, Infected, Replies, TooLarge, verdict


@given(st.lists(st.binary(max_size=300_000), max_size=4))
def test_what_is_streamed_is_what_was_given_and_ends(pieces: list[bytes]) -> None:
    octets = b"".join(clamd.stream(pieces))
    command, _, rest = octets.partition(b"\0")
    assert command == b"zINSTREAM"
    found = b""
    while True:
        (length,) = struct.unpack(">I", rest[:4])
        if not length:
            break
        assert length <= clamd.PIECE
        found, rest = found + rest[4 : 4 + length], rest[4 + length :]
    assert found == b"".join(pieces)
    assert rest == b"\0\0\0\0"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"3: stream: OK", Clean()),
        (b"3: stream: Win.Test.EICAR_HDB-1 FOUND", Infected("Win.Test.EICAR_HDB-1")),
        (b"3: stream: Odd name(with:size) FOUND", Infected("Odd_name(with:size)")),
        (b"INSTREAM size limit exceeded. ERROR", TooLarge("StreamMaxLength")),
        (b"3: INSTREAM size limit exceeded. ERROR", TooLarge("StreamMaxLength")),
        (b"3: stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND", TooLarge("MaxFileSize")),
    ],
)
def test_what_clamd_says_is_understood(reply: bytes, expected: clamd.Verdict) -> None:
    assert verdict(reply, 3) == expected


@pytest.mark.parametrize(
    "reply",
    [
        b"2: stream: OK",  # the answer to another scan
        b"stream: OK",
        b"OK",
        b"",
        b"3: stream: ",
        b"3: stream: NOT OK",
        b"3: stream: Can't allocate memory ERROR",
        b"COMMAND READ TIMED OUT",
        b"UNKNOWN COMMAND",
        b"3: stream: Heuristics.Limits.Exceeded.MaxScanTime FOUND",
        b"99999999999999999999: stream: OK",
    ],
)
def test_what_is_no_verdict_is_never_taken_for_clean(reply: bytes) -> None:
    with pytest.raises(ClamdError) as raised:
        verdict(reply, 3)
    assert str(raised.value)


@given(st.binary(max_size=400), st.integers(1, 5))
@example(b"1: stream: \r\n550 x FOUND", 1)
@example(b"1: stream: \xff\0 FOUND", 1)
def test_nothing_but_a_verdict_or_the_error_comes_of_any_reply(reply: bytes, number: int) -> None:
    try:
        found = verdict(reply, number)
    except ClamdError as error:
        assert str(error).isascii() and str(error).isprintable()
    else:
        assert found != Clean() or reply in (f"{number}: stream: OK".encode(), f"{number}: OK".encode())
        if isinstance(found, Infected):
            assert found.signature and found.signature.isascii() and found.signature.isprintable()


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_replies_are_the_same_however_they_are_cut(pieces: list[bytes]) -> None:
    replies, whole = Replies(), []
    for piece in pieces:
        whole += replies.receive(piece)
    assert whole == b"".join(pieces).split(b"\0")[:-1]


def test_a_reply_without_end_is_not_kept() -> None:
    replies = Replies()
    with pytest.raises(ClamdError, match="more than"):
        for _ in range(100):
            replies.receive(b"x" * 1000)
