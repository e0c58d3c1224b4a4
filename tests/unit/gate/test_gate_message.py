# Changes add up in any order, rules see each other's, and the mail server ends up with the same message as the rules.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mta_side import split

from todoku.gate import changes
from todoku.gate.context import Context
from todoku.gate.decision import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteHeader,
    DeleteRecipient,
    HoldBack,
    InsertHeader,
    Refuse,
    ReplaceBody,
)
from todoku.gate.message import IN_MEMORY, Body, Client, MessageSoFar
from todoku.gate.protocol import EVERY_ACTION, Action, Agreement, Step

AGREED = Agreement(6, EVERY_ACTION, Step.LEADING_SPACE)


def message(*headers: tuple[str, str]) -> MessageSoFar:
    made = MessageSoFar(Client(), Context(), {})
    made.began("<a@hoge.test>", ())
    made.recipient_came("<b@other.test>")
    for name, value in headers:
        made.headers.arrived(name, value)
    return made


def told(made: MessageSoFar, received: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a mail server that numbers headers as Postfix does makes of the packets."""
    block = [("Received", " ours"), *received]
    for command, payload in split(changes.difference(made, AGREED)):
        if command == "h":
            name, value = payload[:-1].decode().split("\0")
            block.append((name, value))
        elif command == "i":
            name, value = payload[4:-1].decode().split("\0")
            block.insert(int.from_bytes(payload[:4], "big"), (name, value))
        elif command == "m":
            name, value = payload[4:-1].decode().split("\0")
            nth = int.from_bytes(payload[:4], "big")
            # the first header of the block, whatever it is, does not count
            places = [i for i, (n, _) in enumerate(block) if i and n.lower() == name.lower()]
            if value:
                block[places[nth - 1]] = (block[places[nth - 1]][0], value)
            else:
                del block[places[nth - 1]]
    return block


names = st.sampled_from(["Subject", "X-Twice", "x-twice", "Received", "From"])
values = st.sampled_from([" a", " b", " c"])
edits = st.one_of(
    st.builds(AddHeader, names, values),
    st.builds(InsertHeader, names, values),
    st.builds(ChangeHeader, names, values, st.integers(1, 3)),
    st.builds(DeleteHeader, names, st.one_of(st.none(), st.integers(1, 3))),
)


@given(st.lists(st.tuples(names, values), min_size=1, max_size=6), st.lists(edits, max_size=8))
def test_the_mail_server_ends_up_with_the_headers_the_rules_saw(received, wanted):
    made = message(*received)
    for edit in wanted:
        try:
            changes.apply(edit, made)
        except KeyError:
            continue
    seen = [(header.name, header.value) for header in made.headers]
    block = told(made, received)
    place = block.index(("Received", " ours"))
    inserted = [h for h in block if h != ("Received", " ours")]
    assert inserted == seen
    kept = {header.origin for header in made.headers if header.origin >= 0}
    if kept:
        assert place == next(i for i, header in enumerate(made.headers) if header.origin >= 0)


def test_what_comes_and_goes_again_is_not_told():
    made = message(("Subject", " hello"))
    for edit in (
        AddHeader("X", "1"),
        DeleteHeader("X"),
        ChangeSender("other@hoge.test"),
        ChangeSender("a@hoge.test"),
        AddRecipient("c@other.test"),
        DeleteRecipient("c@other.test"),
    ):
        changes.apply(edit, made)
    assert changes.difference(made, AGREED) == b""


def test_the_envelope_is_told_in_the_mail_servers_own_words():
    made = message()
    made.recipients_given["b@other.test"] = "<b@other.test>"
    for edit in (ChangeSender(""), AddRecipient("c@other.test"), DeleteRecipient("b@other.test")):
        changes.apply(edit, made)
    assert split(changes.difference(made, AGREED)) == [
        ("e", b"<>\0"),
        ("-", b"<b@other.test>\0"),
        ("+", b"<c@other.test>\0"),
    ]


@pytest.mark.parametrize(
    ("edit", "action"),
    [
        (ChangeSender("x@hoge.test"), Action.CHANGE_SENDER),
        (AddRecipient("x@hoge.test"), Action.ADD_RECIPIENTS),
        (DeleteRecipient("b@other.test"), Action.DELETE_RECIPIENTS),
        (ReplaceBody(b""), Action.REPLACE_BODY),
        (ChangeHeader("Subject", "x"), Action.CHANGE_HEADERS),
    ],
)
def test_a_change_the_mail_server_does_not_permit_is_an_error(edit, action):
    made = message(("Subject", " hello"))
    changes.apply(edit, made)
    with pytest.raises(changes.NotPermitted, match=action.name):
        changes.difference(made, Agreement(6, EVERY_ACTION & ~action, Step(0)))


def test_changing_a_header_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="Subject"):
        changes.apply(ChangeHeader("Subject", "x"), message())


def test_a_header_is_unfolded_for_reading_and_raw_for_signatures():
    made = message(("Subject", " one\n two"), ("To", " b@other.test"))
    assert made.headers.first("subject") == "one two"
    assert made.headers.raw() == b"Subject: one\r\n two\r\nTo: b@other.test\r\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Refuse(450, "5.7.1", ""),
        lambda: Refuse(550, "4.7.1", ""),
        lambda: Refuse(550, "5.7", ""),
        lambda: HoldBack(550, "5.7.1", ""),
        lambda: AddHeader("X Y", ""),
        lambda: AddHeader("X:", ""),
        lambda: DeleteHeader(""),
        lambda: AddHeader("X", "a\nBcc: b@c.test"),
        lambda: AddHeader("X", "a\r\n"),
        lambda: InsertHeader("X", "a\0"),
        lambda: ChangeHeader("X", " "),
        lambda: ChangeSender("a@b.test\r\nRCPT TO:<c@d.test>"),
        lambda: AddRecipient("a\0@b.test"),
    ],
)
def test_what_cannot_be_said_cannot_be_decided(make):
    with pytest.raises(ValueError, match="not a"):
        make()


def test_a_small_body_stays_in_memory(tmp_path):
    body = Body(tmp_path)
    body.append(b"x" * IN_MEMORY)
    assert not body.spooled
    assert body.read() == b"x" * IN_MEMORY


def test_a_large_body_goes_to_a_file_without_a_name_and_comes_back_whole(tmp_path):
    body = Body(tmp_path)
    pieces = [bytes([i]) * 65_535 for i in range(40)]
    for piece in pieces:
        body.append(piece)
    assert body.spooled
    assert list(tmp_path.iterdir()) == []
    assert body.read() == b"".join(pieces) == body.read()
    assert body.size == 40 * 65_535
    body.close()
    assert not body.spooled
