# What the gate says reaches the client as it was meant: "%" signs, line lengths and characters included.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mta_side import split

from todoku.gate import replies


def said(code, enhanced, words):
    ((command, payload),) = split(replies.reply_code(code, enhanced, words))
    assert command == "y"
    assert payload.endswith(b"\0")
    return payload[:-1].decode("ascii")


def test_percent_signs_are_doubled_because_mail_servers_format_the_text():
    assert said(550, "5.7.1", "100 %") == "550 5.7.1 100 %%"


def test_line_breaks_become_continuation_lines():
    assert said(550, "5.7.1", "one\ntwo") == "550-5.7.1 one\r\n550 5.7.1 two"


@given(st.text(max_size=2000))
def test_any_words_are_valid_reply_lines(words):
    lines = said(451, "4.7.1", words).replace("%%", "%").split("\r\n")
    assert all(len(line) <= 510 and line.isprintable() for line in lines)
    assert all(line.startswith("451-4.7.1 ") for line in lines[:-1])
    assert lines[-1].startswith("451 4.7.1 ")


def test_a_header_gets_its_leading_space_only_where_that_was_agreed():
    assert split(replies.add_header("X", "v", leading_space=True)) == [("h", b"X\0 v\0")]
    assert split(replies.add_header("X", " v", leading_space=True)) == [("h", b"X\0 v\0")]
    assert split(replies.add_header("X", " v", leading_space=False)) == [("h", b"X\0v\0")]


def test_folded_lines_are_joined_by_a_bare_line_feed():
    assert split(replies.add_header("X", " a\r\n b", leading_space=True)) == [("h", b"X\0 a\n b\0")]


def test_a_nul_is_refused_instead_of_cutting_the_value():
    with pytest.raises(ValueError, match="NUL"):
        replies.add_header("X", "a\0b", leading_space=True)


@given(st.binary(max_size=200_000))
def test_a_new_body_goes_in_pieces_and_arrives_whole(body):
    pieces = [payload for packet in replies.replace_body([body]) for _, payload in split(packet)]
    assert b"".join(pieces) == body
    assert pieces
    assert all(len(piece) <= 65_535 for piece in pieces)
