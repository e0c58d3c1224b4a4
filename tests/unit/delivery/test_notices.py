# Who wrote to somebody whom it did not reach hears of it: once, in words, and in the form that mail programs know
# (RFC 3464); also when the agent is killed at the worst moment.

from __future__ import annotations

import email
import email.policy
import smtplib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from todoku.delivery import dsn
from todoku.delivery.entries import Active, Attempt, Heard, Named, Removed, Told
from todoku.delivery.notices import DOUBT, Sender, Writer
from todoku.delivery.record import Recorder
from todoku.settings import Settings
from todoku.store import ledger
from todoku.store import ledger_schema as schema

T = 1_795_507_939.0
SETTINGS = Settings.model_validate(
    {
        "hostname": "mx.hoge.example",
        "addresses": ["203.0.113.10"],
        "postmaster": "postmaster@hoge.example",
        "domains": [{"name": "hoge.example"}],
        "relay": {"region": "ap-tokyo-1"},
    }
)
TOLD = Told(T + 60, "", "gone@mailbox.example", "HARDBOUNCE", "m1@hoge.example", "550 5.1.1 no such user",
            "mx.mailbox.example", "2026-11-24")  # fmt: skip


def sent(sender: str = "alice@hoge.example", queue_id: str = "4aaaaaaaaaaaa") -> list[Any]:
    return [
        Named(T, queue_id, "<m1@hoge.example>"),
        Active(T, queue_id, sender, 1000, 1),
        Attempt(
            T,
            queue_id,
            "smtp",
            "gone@mailbox.example",
            "",
            "relay[192.0.2.20]:587",
            "2.0.0",
            "sent",
            "250 Ok)",
        ),
        Removed(T, queue_id),
    ]


def notices(engine: Engine) -> list[Any]:
    with ledger.read(engine) as connection:
        return list(connection.execute(select(schema.notice).order_by(schema.notice.c.id)).all())


def bounced(engine: Engine, sender: str = "alice@hoge.example") -> Recorder:
    recorder = Recorder(engine, Writer(SETTINGS))
    recorder.record(sent(sender))
    for _ in range(2):  # the list is read again and again
        recorder.record([TOLD])
    return recorder


class Post:
    """Where notices are handed over."""

    def __init__(self, *troubles: Exception) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.troubles = list(troubles)

    def __call__(self, to: str, content: bytes) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        self.taken.append((to, content))


def test_the_notice_is_a_report_that_mail_programs_understand(engine: Engine) -> None:
    bounced(engine)
    post = Post()
    Sender(engine, post).send()
    ((to, content),) = post.taken
    assert to == "alice@hoge.example"
    report = email.message_from_bytes(content, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    assert report["Auto-Submitted"] == "auto-replied"
    words, status, original = report.iter_parts()
    assert "gone@mailbox.example" in words.get_content()
    assert "550 5.1.1 no such user" in words.get_content()
    assert "did not arrive" in words.get_content()
    assert status.get_content_type() == "message/delivery-status"
    of_message, of_recipient = status.get_payload()
    assert of_message["Reporting-MTA"] == "dns; mx.hoge.example"
    assert of_recipient["Final-Recipient"] == "rfc822; gone@mailbox.example"
    assert (of_recipient["Action"], of_recipient["Status"]) == ("failed", "5.1.1")
    assert of_recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert of_recipient["Remote-MTA"] == "dns; mx.mailbox.example"
    assert original.get_content_type() == "text/rfc822-headers"
    assert "<m1@hoge.example>" in str(original)
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_what_the_relay_took_and_then_says_it_suppressed_is_told_to_the_sender(engine: Engine) -> None:
    # A success code, and nothing is sent: the relay's own log is the only one to know.
    recorder = Recorder(engine, Writer(SETTINGS))
    recorder.record(sent())
    said = Heard(T + 1, "", "r1", "suppressed", "gone@mailbox.example", "m1@hoge.example",
                 "254 4.7.1 Suppression for user ocid1.user to gone@mailbox.example", "")  # fmt: skip
    for _ in range(2):
        recorder.record([said])
    recorder.record([TOLD])  # why it is on the list: no second notice
    post = Post()
    Sender(engine, post).send()
    ((to, content),) = post.taken
    assert to == "alice@hoge.example"
    words, status, _ = email.message_from_bytes(content, policy=email.policy.default).iter_parts()
    assert "it is on its suppression list" in words.get_content()
    assert "`todoku suppression lift`" in words.get_content()
    assert status.get_payload()[1]["Status"] == "5.7.1"


def test_exactly_one_for_each_message_and_cause(engine: Engine) -> None:
    recorder = bounced(engine)
    post = Post()
    for _ in range(3):
        Sender(engine, post).send()
        recorder.record([TOLD])
    assert len(post.taken) == 1
    assert [row.state for row in notices(engine)] == ["sent"]


@pytest.mark.parametrize(
    "sender", ["", "dave@outside.example", "srs0=abc=xy=outside.example=dave@hoge.example"]
)
def test_nobody_outside_is_written_to(engine: Engine, sender: str) -> None:
    bounced(engine, sender)
    assert notices(engine) == []


def test_killed_before_postfix_took_it_it_is_sent_after_the_next_start(engine: Engine) -> None:
    bounced(engine)
    with pytest.raises(KeyboardInterrupt):
        Sender(engine, _killed).send()
    assert notices(engine)[0].state == "sending"
    now = 0.0
    post = Post()
    again = Sender(engine, post, lambda: now)
    again.send()
    assert not post.taken  # the log may not have been read yet
    now = DOUBT
    again.send()
    assert len(post.taken) == 1


def _killed(_to: str, _content: bytes) -> None:
    raise KeyboardInterrupt


def test_killed_after_postfix_took_it_it_is_not_sent_again(engine: Engine) -> None:
    recorder = bounced(engine)
    with pytest.raises(KeyboardInterrupt):
        Sender(engine, _killed).send()
    message_id = notices(engine)[0].message_id
    recorder.record(
        [Named(T + 61, "4nnnnnnnnnnnn", message_id), Active(T + 61, "4nnnnnnnnnnnn", "", 3000, 1)]
    )
    now = DOUBT
    post = Post()
    again = Sender(engine, post, lambda: now)
    now += DOUBT
    again.send()
    assert not post.taken
    assert [row.state for row in notices(engine)] == ["sent"]


def test_a_message_that_postfix_began_to_take_and_did_not_is_sent(engine: Engine) -> None:
    recorder = bounced(engine)
    with pytest.raises(KeyboardInterrupt):
        Sender(engine, _killed).send()
    recorder.record([Named(T + 61, "4nnnnnnnnnnnn", notices(engine)[0].message_id)])  # and never a size
    now = 0.0
    post = Post()
    again = Sender(engine, post, lambda: now)
    now = DOUBT
    again.send()
    assert len(post.taken) == 1


@pytest.mark.parametrize(
    ("trouble", "state"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "waiting"),
        (smtplib.SMTPDataError(451, b"later"), "waiting"),
        (smtplib.SMTPDataError(550, b"never"), "refused"),
        (smtplib.SMTPRecipientsRefused({"a": (550, b"no")}), "refused"),
        (smtplib.SMTPServerDisconnected("gone"), "waiting"),
    ],
)
def test_what_is_not_taken_waits_unless_it_never_will_be(
    engine: Engine, trouble: Exception, state: str
) -> None:
    bounced(engine)
    Sender(engine, Post(trouble)).send()
    assert [row.state for row in notices(engine)] == [state]


@given(st.text(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_whatever_the_other_side_said_the_notice_is_whole(words: str, host: str, message_id: str) -> None:
    failure = dsn.Failure("x@y.example", words, host, T, T, message_id, "4aaaaaaaaaaaa")
    content = dsn.notice(
        failure, "alice@hoge.example", "mx.hoge.example", "postmaster@hoge.example", "<n@mx>"
    )
    report = email.message_from_bytes(content, policy=email.policy.default)
    assert content.isascii()
    assert len(list(report.iter_parts())) == 3
    assert report["To"] == "alice@hoge.example"
    fields = list(report.iter_parts())[1].get_payload()
    assert fields[1]["Final-Recipient"] == "rfc822; x@y.example"
    assert fields[1]["Action"] == "failed"
