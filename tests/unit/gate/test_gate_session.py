# Nothing passes by accident: every rule is asked in its place, its answer is told, any fault is 451.

from __future__ import annotations

import asyncio
import errno
import logging
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mta_side import connect, content, envelope, negotiate, packet, split, strings

from todoku.gate import message as message_module
from todoku.gate.connection import _finish
from todoku.gate.context import Context
from todoku.gate.decision import (
    PASS,
    AddHeader,
    Change,
    ChangeHeader,
    ChangeSender,
    HoldBack,
    InsertHeader,
    Refuse,
    ReplaceBody,
)
from todoku.gate.protocol import Decoder, ProtocolError, Step
from todoku.gate.rule import Placed, RuleSet, Stage
from todoku.gate.session import Session, Surroundings

NO = Refuse(550, "5.7.1", "no")
CONTINUE = ("c", b"")


class Conversation:
    """A session whose waiting rules are driven at once."""

    def __init__(self, tmp_path, *placed, deadline=5.0):
        rules = [Placed(stage, f"rule{number}", rule) for number, (stage, rule) in enumerate(placed)]
        self.context = Context()
        self.session = Session(Surroundings(RuleSet(rules), lambda: self.context, tmp_path))
        self.decoder = Decoder()
        self.deadline = deadline

    def hear(self, raw: bytes) -> list[tuple[str, bytes]]:
        out = b""
        for event in self.decoder.receive(raw):
            done = self.session.handle(event)
            out += done if isinstance(done, bytes) else self._drive(done)
        return split(out)

    def _drive(self, work):
        try:
            awaited = next(work)
        except StopIteration as finished:
            return finished.value

        async def rest():
            return await _finish(work, awaited, self.deadline)

        return asyncio.run(rest())

    def message(self, **parts):
        return self.hear(envelope() + content(**parts))


def open_to(tmp_path, *placed, steps=0x1FFFFF, version=6, **keywords):
    conversation = Conversation(tmp_path, *placed, **keywords)
    conversation.hear(negotiate(version=version, steps=steps) + connect())
    return conversation


def test_without_rules_a_message_costs_one_reply(tmp_path):
    assert open_to(tmp_path).message() == [CONTINUE]


def test_several_messages_follow_each_other_and_know_nothing_of_each_other(tmp_path):
    seen = []

    def rule(message):
        seen.append(
            (message.sender, message.login, message.queue_id, len(message.headers), message.body.read())
        )
        return NO if len(seen) == 2 else Change([AddHeader("X", "1")])

    gate = open_to(tmp_path, (Stage.BODY, rule))
    first, second, third = (gate.message(body=body) for body in (b"1\r\n", b"2\r\n", b"3\r\n"))
    assert first == third == [("h", b"X\0 1\0"), CONTINUE]
    assert second == [("y", b"550 5.7.1 no\0")]
    assert seen == [("a@hoge.test", "alice", "QUEUE1", 1, body) for body in (b"1\r\n", b"2\r\n", b"3\r\n")]


@pytest.mark.parametrize(
    "stage", [Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.HEADERS, Stage.BODY]
)
@pytest.mark.parametrize("verdict", [NO, HoldBack(451, "4.7.1", "later")])
def test_a_rule_can_refuse_and_hold_back_at_every_stage(tmp_path, stage, verdict):
    gate = Conversation(tmp_path, (stage, lambda _message: verdict))
    gate.hear(negotiate())
    parts = {
        Stage.CONNECT: connect(),
        Stage.HELO: packet("H", strings("client.test")),
        Stage.MAIL: packet("M", strings("<a@hoge.test>")),
        Stage.RCPT: packet("R", strings("<b@other.test>")),
        Stage.HEADERS: packet("L", strings("Subject", " hello")) + packet("N"),
        Stage.BODY: packet("B", b"text\r\n") + packet("E"),
    }
    said = []
    for at, raw in parts.items():
        said = gate.hear(raw)
        if at >= stage and said:
            break
    if stage is Stage.HEADERS:
        assert at is Stage.BODY  # told at the end: no reply is due before
    assert said == [("y", f"{verdict.code} {verdict.enhanced} {verdict.words}\0".encode())]


def test_a_refused_recipient_is_gone_and_the_others_stay(tmp_path):
    seen = []

    def person(message):
        return NO if message.recipient == "c@other.test" else PASS

    def all_of_them(message):
        seen.extend(message.recipients)
        return PASS

    gate = open_to(tmp_path, (Stage.RCPT, person), (Stage.BODY, all_of_them))
    replies = gate.hear(envelope(recipients=("<b@other.test>", "<c@other.test>", "<d@other.test>")))
    assert [command for command, _ in replies] == ["c", "y", "c"]
    assert gate.hear(content()) == [CONTINUE]
    assert seen == ["b@other.test", "d@other.test"]


def test_the_first_refusal_ends_the_matter(tmp_path):
    asked = []

    def first(_message):
        asked.append("first")
        return NO

    def second(_message):
        asked.append("second")
        return PASS

    gate = open_to(tmp_path, (Stage.HEADERS, first), (Stage.HEADERS, second), (Stage.BODY, second))
    assert gate.message() == [("y", b"550 5.7.1 no\0")]
    assert asked == ["first"]


def test_later_rules_see_what_earlier_ones_changed(tmp_path):
    def mail(_message):
        return Change([ChangeSender("bounces@hoge.test")])

    async def headers(message):
        await asyncio.sleep(0)
        assert message.sender == "bounces@hoge.test"
        return Change([ChangeHeader("Subject", "new"), InsertHeader("X-Top", "1")])

    def body(message):
        assert message.headers.first("Subject") == "new"
        return Change([ReplaceBody(message.body.read() + b"more\r\n")])

    gate = open_to(tmp_path, (Stage.MAIL, mail), (Stage.HEADERS, headers), (Stage.BODY, body))
    assert gate.hear(envelope()) == [CONTINUE]
    assert gate.hear(content()) == [
        ("e", b"<bounces@hoge.test>\0"),
        ("m", b"\0\0\0\x01Subject\0 new\0"),
        ("i", b"\0\0\0\0X-Top\0 1\0"),
        ("b", b"text\r\nmore\r\n"),
        CONTINUE,
    ]


def failing(_message):
    raise RuntimeError("a fault")


async def failing_later(_message):
    await asyncio.sleep(0)
    raise RuntimeError("a fault")


async def never(_message):
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    "rule",
    [
        failing,
        failing_later,
        never,
        lambda _message: None,
        lambda _message: True,
        lambda _message: Change([ChangeHeader("Not-There", "x")]),
        lambda _message: Change([AddHeader("X", "nul\0")]),
    ],
)
def test_a_fault_in_a_rule_holds_the_message_back_and_is_in_the_log(tmp_path, caplog, rule):
    gate = open_to(tmp_path, (Stage.BODY, rule), deadline=0.05)
    ((command, words),) = gate.message()
    assert command == "y"
    assert words.startswith(b"451 4.3.0 ")
    record = caplog.records[-1]
    assert "QUEUE1" in record.getMessage()
    assert record.exc_info
    assert gate.session.in_progress is False


def test_the_content_cannot_be_changed_before_it_is_there(tmp_path, caplog):
    gate = open_to(tmp_path, (Stage.MAIL, lambda _message: Change([AddHeader("X", "1")])))
    ((_, words),) = gate.hear(envelope(recipients=()))
    assert words.startswith(b"451 4.3.0 ")
    assert "cannot be changed at MAIL" in caplog.text


def test_a_change_the_mail_server_does_not_permit_holds_the_message_back(tmp_path, caplog):
    gate = Conversation(tmp_path, (Stage.BODY, lambda _message: Change([ChangeSender("x@hoge.test")])))
    gate.hear(negotiate(actions=0x3F) + connect())
    ((_, words),) = gate.message()
    assert words.startswith(b"451 4.3.0 ")
    assert "milter_protocol" in caplog.text


def test_a_full_disk_holds_the_message_back(tmp_path, monkeypatch, caplog):
    def full(self, chunk):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(message_module.Body, "append", full)
    gate = open_to(tmp_path, (Stage.BODY, lambda _message: PASS))
    ((_, words),) = gate.message()
    assert words.startswith(b"451 4.3.1 ")
    assert "QUEUE1" in caplog.text


def test_endless_headers_are_refused_and_not_kept(tmp_path):
    gate = open_to(tmp_path, (Stage.BODY, lambda _message: PASS))
    gate.hear(envelope())
    line = packet("L", strings("X-Long", "x" * 100_000))
    for _ in range(60):
        gate.hear(line)
    assert gate.session._message.headers.size <= message_module.MOST_KEPT
    ((_, words),) = gate.hear(packet("N") + packet("E"))
    assert words.startswith(b"552 5.3.4 ")


def test_an_aborted_message_is_forgotten(tmp_path):
    gate = open_to(
        tmp_path, (Stage.BODY, lambda message: Refuse(550, "5.0.0", message.body.read().decode().strip()))
    )
    gate.hear(
        envelope() + packet("L", strings("A", " b")) + packet("N") + packet("B", b"old\r\n") + packet("A")
    )
    assert not gate.session.in_progress
    assert gate.message(body=b"new\r\n") == [("y", b"550 5.0.0 new\0")]


def test_a_message_keeps_the_context_it_began_with(tmp_path):
    seen = []

    def rule(message):
        seen.append(message.context)
        return PASS

    gate = open_to(tmp_path, (Stage.MAIL, rule), (Stage.BODY, rule))
    old = gate.context
    gate.hear(envelope())
    gate.context = new = Context()
    gate.hear(content())
    gate.message()
    assert [one is old for one in seen[:2]] == [True, True]
    assert [one is new for one in seen[2:]] == [True, True]


def test_a_mail_server_of_version_2_gets_a_reply_to_everything(tmp_path):
    gate = Conversation(tmp_path, (Stage.BODY, lambda _message: Change([AddHeader("X", " 1")])))
    ((command, payload),) = gate.hear(negotiate(version=2, actions=0x3F, steps=0x7F))
    assert (command, payload) == ("O", struct.pack(">III", 2, 0x1F, 0))
    assert gate.hear(connect()) == [CONTINUE]
    assert gate.hear(envelope()) == [CONTINUE] * 2
    assert gate.hear(content()) == [CONTINUE] * 3 + [("h", b"X\x001\x00"), CONTINUE]


def test_a_mail_server_that_knows_skip_need_not_send_a_body_that_is_refused_already(tmp_path):
    steps = 0x7F | Step.SKIP | Step.SILENT_END_OF_HEADERS
    gate = open_to(
        tmp_path, (Stage.HEADERS, lambda _message: NO), (Stage.BODY, lambda _message: PASS), steps=steps
    )
    gate.hear(envelope())
    assert gate.hear(packet("L", strings("A", "b")) + packet("N")) == [CONTINUE]
    assert gate.hear(packet("B", b"text\r\n")) == [("s", b"")]
    assert gate.hear(packet("E")) == [("y", b"550 5.7.1 no\0")]


def test_the_last_piece_of_the_body_may_come_with_the_end(tmp_path):
    gate = open_to(tmp_path, (Stage.BODY, lambda message: Refuse(550, "5.0.0", message.body.read().decode())))
    gate.hear(envelope() + packet("N") + packet("B", b"one "))
    assert gate.hear(packet("E", b"two")) == [("y", b"550 5.0.0 one two\0")]


def test_headers_are_judged_even_if_their_end_was_not_told(tmp_path):
    gate = open_to(tmp_path, (Stage.HEADERS, lambda _message: NO))
    assert gate.hear(envelope() + packet("E")) == [("y", b"550 5.7.1 no\0")]


@pytest.mark.parametrize("raw", [connect(), envelope(), packet("E"), packet("A")])
def test_nothing_may_come_before_the_negotiation(tmp_path, raw):
    with pytest.raises(ProtocolError, match="before the negotiation"):
        Conversation(tmp_path).hear(raw)


@pytest.mark.parametrize(
    "raw", [packet("R", strings("<b@c.test>")), content(), packet("N"), packet("B"), packet("E")]
)
def test_there_is_no_content_without_a_message(tmp_path, raw):
    with pytest.raises(ProtocolError, match="without a message"):
        open_to(tmp_path).hear(raw)


def test_the_next_client_over_the_same_connection_is_a_new_one(tmp_path):
    seen = []

    def rule(message):
        seen.append((message.client.address, message.client.helo))
        return PASS

    gate = open_to(tmp_path, (Stage.BODY, rule))
    gate.hear(packet("H", strings("one.test")))
    gate.message()
    gate.hear(packet("K") + connect("192.0.2.2"))
    gate.message()
    assert seen == [("192.0.2.1", "one.test"), ("192.0.2.2", "")]


steps = st.sampled_from(
    [
        *(connect(), envelope(), content(), packet("A"), packet("K"), packet("O", bytes(12)), packet("T")),
        *(packet("H", strings("x")), packet("R", strings("<c@d.test>")), packet("U", strings("FOO"))),
        *(packet("L", strings("A", "b")), packet("N"), packet("B", b"x"), packet("E")),
        packet("D", b"R" + strings("i", "Q")),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25), st.sampled_from([0, 0x7F, 0x1FFFFF]))
def test_any_order_of_events_is_answered_or_a_protocol_error(tmp_path_factory, order, offered):
    logging.disable()
    gate = open_to(
        tmp_path_factory.getbasetemp(),
        (Stage.BODY, lambda _message: Change([AddHeader("X", "1")])),
        steps=offered,
    )
    for raw in order:
        try:
            replies = gate.hear(raw)
        except ProtocolError:
            break
        if raw == packet("E"):
            assert replies == [("h", replies[0][1]), CONTINUE]
    gate.session.close()
    logging.disable(logging.NOTSET)


def test_a_rule_that_is_not_needed_when_a_connection_begins_is_not_asked_and_not_waited_for(tmp_path):
    needed = [False]
    placed = Placed(Stage.RCPT, "sometimes", lambda _message: NO, needed=lambda _context: needed[0])
    surroundings = Surroundings(RuleSet([placed]), Context, tmp_path)

    def conversation(steps=0x1FFFFF):
        made = Conversation(tmp_path)
        made.session = Session(surroundings)
        made.hear(negotiate(steps=steps) + connect())
        return made

    assert conversation().hear(envelope()) == []
    # A mail server that cannot do without a reply gets the right one.
    assert conversation(steps=0x7F).hear(envelope())[-1] == ("y", b"550 5.7.1 no\0")
    needed[0] = True
    assert conversation().hear(envelope()) == [("y", b"550 5.7.1 no\0")]
