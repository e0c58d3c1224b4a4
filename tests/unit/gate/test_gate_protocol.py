# Whatever arrives on the gate's socket, the decoder says what it is or that it is wrong: it never fails otherwise,
# never loops, and never keeps more than one packet.

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mta_side import connect, content, envelope, negotiate, packet, split, strings

from todoku.gate import events
from todoku.gate.context import Context
from todoku.gate.decision import PASS
from todoku.gate.protocol import LARGEST_PACKET, Action, Decoder, ProtocolError, Step, agree, wanted_steps
from todoku.gate.rule import Placed, RuleSet, Stage

MESSAGE = negotiate() + connect() + packet("H", strings("client.test")) + envelope() + content() + packet("Q")


def test_a_whole_dialogue_is_read():
    assert Decoder().receive(MESSAGE) == [
        events.Negotiate(6, 0x1FF, 0x1FFFFF),
        events.Connect("client.test", "4", 1234, "192.0.2.1"),
        events.Helo("client.test"),
        events.Macros("M", {"i": "QUEUE1", "auth_authen": "alice"}),
        events.Mail("<a@hoge.test>", ()),
        events.Rcpt("<b@other.test>", ()),
        events.Header("Subject", " hello"),
        events.EndOfHeaders(),
        events.Body(b"text\r\n"),
        events.EndOfMessage(b""),
        events.Quit(),
    ]


@given(st.lists(st.integers(0, len(MESSAGE)), max_size=40))
def test_where_the_stream_is_cut_makes_no_difference(cuts):
    edges = [0, *sorted(cuts), len(MESSAGE)]
    decoder = Decoder()
    found = [
        event
        for start, end in itertools.pairwise(edges)
        for event in decoder.receive(memoryview(MESSAGE)[start:end])
    ]
    assert found == Decoder().receive(MESSAGE)


def test_byte_by_byte_is_the_same():
    decoder = Decoder()
    assert [e for byte in MESSAGE for e in decoder.receive(bytes([byte]))] == Decoder().receive(MESSAGE)


commands = st.sampled_from("ODCHMRTULNBEAQK")
payloads = st.binary(max_size=60)
packets = st.builds(packet, commands, payloads)


@settings(max_examples=400)
@given(st.lists(st.one_of(st.binary(max_size=40), packets), max_size=20))
@example([b"\xff\xff\xff\xff"])
@example([b"\0\0\0\0"])
@example([packet("D")])
@example([packet("C", b"x\0")])
@example([packet("C", b"x\0" + b"4\0\0")])
@example([packet("L", b"\0\0")])
def test_arbitrary_bytes_raise_nothing_but_the_protocol_error(pieces):
    decoder = Decoder()
    fed = 0
    for piece in pieces:
        fed += len(piece)
        try:
            found = decoder.receive(piece)
        except ProtocolError:
            return
        assert len(found) <= fed // 5 + 1
        assert len(decoder._rest) <= min(fed, LARGEST_PACKET + 4)


def test_what_is_kept_never_exceeds_one_packet():
    decoder = Decoder()
    decoder.receive(struct.pack(">I", LARGEST_PACKET) + b"B")
    for _ in range(40):
        decoder.receive(bytes(64 * 1024))
        assert len(decoder._rest) <= LARGEST_PACKET + 4
        if not decoder._rest[:4].strip(b"\0"):
            break


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (struct.pack(">I", LARGEST_PACKET + 1) + b"B", "a packet of"),
        (struct.pack(">I", 0) + b"A", "a packet of 0 bytes"),
        (packet("Z"), "unknown command 'Z'"),
        (packet("M", b"<a@b.test>"), "mail: the last string is not terminated"),
        (packet("L", strings("Subject")), "not a name and a value"),
        (packet("D", b"C" + strings("j")), "a name without a value"),
        (packet("O", b"1234"), "negotiation of 4 bytes"),
        (packet("C", b"h\0" + b"9" + b"\0\0" + b"\0"), "malformed address of family '9'"),
    ],
)
def test_what_is_wrong_is_said(raw, words):
    with pytest.raises(ProtocolError, match=words):
        Decoder().receive(raw)


def test_any_byte_a_client_sends_survives():
    (event,) = Decoder().receive(packet("L", b"Subject\0 \xff\xfe caf\xc3\xa9\0"))
    assert isinstance(event, events.Header)
    assert event.value.encode("utf-8", "surrogateescape") == b" \xff\xfe caf\xc3\xa9"


def test_a_client_on_an_unknown_kind_of_socket_has_no_address():
    assert Decoder().receive(packet("C", b"localhost\0U")) == [events.Connect("localhost", "U", 0, "")]


def test_the_newest_version_of_both_is_spoken():
    assert [agree(events.Negotiate(v, 0x1FF, 0x1FFFFF), Step.SKIP).version for v in (2, 3, 6, 7)] == [
        2,
        3,
        6,
        6,
    ]


def test_a_version_before_2_is_refused():
    with pytest.raises(ProtocolError, match="milter version 1; at least 2 is needed"):
        agree(events.Negotiate(1, 0xFF, 0xFF), Step.SKIP)


@given(st.integers(2, 6), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_nothing_is_agreed_that_was_not_offered(version, actions, steps):
    agreed = agree(events.Negotiate(version, actions, steps), RuleSet(()).steps(Context()))
    assert agreed.actions & ~actions == 0
    assert agreed.steps & ~steps == 0
    ((command, payload),) = split(agreed.encode())
    assert command == "O"
    assert struct.unpack(">III", payload[:12]) == (agreed.version, agreed.actions, agreed.steps)
    assert len(payload) == 12 or agreed.actions & Action.SET_MACROS


def _pass(_message):
    return PASS


def test_only_stages_with_rules_cost_a_round_trip():
    def rules(*stages):
        return RuleSet(Placed(stage, "", _pass) for stage in stages).steps(Context())

    every = Step(0)
    for step in Step:
        every |= step if step.name.startswith("SILENT") else Step(0)
    assert rules(Stage.HEADERS, Stage.BODY) & every == every
    assert rules(Stage.RCPT) & every == every & ~Step.SILENT_RCPT
    assert rules(Stage.HEADERS) & Step.NO_BODY
    assert not rules(Stage.BODY) & Step.NO_BODY
    assert wanted_steps((), {}, body=True) & Step.SKIP
