# "550 5.7.1" tells nobody what to do. Held against replies that nobody here wrote: those that KumoMTA has collected
# from large providers (tests/data), Oracle's own, and those of this host.

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from todoku.check import replies
from todoku.check.explain import Explanation, Move, explain, shown, table
from todoku.cli.main import app

DATA = Path(__file__).parents[2] / "data/replies/provider-responses.toml"


def collected() -> list[tuple[str, str]]:
    data = tomllib.loads(DATA.read_text())
    return [
        (domain, f"{reply['code']} {reply['msg']}")
        for kind in ("bounce", "defer")
        for domain, found in data[kind].items()
        for reply in found
    ]


# What a person who knows mail makes of each: the beginning of what is said, and the row.
READ = {
    "550 MAILBOX NOT FOUND": "unknown-user",
    "550 We would love to have gotten": "unknown-user",
    "550 5.1.1 The email account": "unknown-user",
    "550 5.2.1 The email account that you tried to reach is disabled": "unknown-user",
    "550 5.2.1 The user you are trying": "gmail-receiving-rate",
    "550 5.7.1 [x.xx.xx.xx 14] Messages missing": "gmail-from",
    "550 5.7.1 [x.xx.xx.xx] Our system has detected that this message is likely suspicious": "gmail-reputation-domain",
    "550 5.7.1 [x.xx.xx.xx] Our system has detected that this message is likely unsol": "gmail-content",
    "550 5.7.1 Unauthenticated email": "gmail-dmarc-policy",
    "552 5.2.2 The email account": "mailbox-full",
    "552 5.2.3 Your message exceeded": "too-large",
    "552 5.7.0 Our system detected an illegal": "gmail-attachment",
    "553 5.1.2 The recipient address": "invalid-address",
    "550-5.1.1 The email account": "unknown-user",
    "550 Requested action not taken": "outlook-unavailable",
    "554 5.4.4 Domain Lookup Failed": "no-domain",
    "501 Syntax error": "bad-address",
    "550 relaying denied": "relaying-denied",
    "552 Requested mail action aborted, mailbox": "unknown-user",
    "553 host xx.yahoodns.net": "spamhaus",
    "554 5.7.9 Message not accepted": "yahoo-auth",
    "554 delivery error: dd example@example.com is no longer": "yahoo-no-user",
    "554 delivery error: dd Requested": "yahoo-cannot",
    "554 delivery error: dd Sorry your": "unknown-user",
    "554 delivery error: dd Sorry, your": "yahoo-no-user",
    "554 delivery error: dd This user": "yahoo-no-user",
    "554 Message not allowed - [": "yahoo-content",
    "554 Message not allowed - Headers": "yahoo-headers",
    "421 [IPTS04]": "yahoo-deferred",
    "421 4.7.0 [TSS04]": "yahoo-deferred",
    "421 4.7.0 [x.xx.xx.xx] Our system has detected that this message is suspicious due to the nature": "gmail-content",
    "421 4.7.0 [x.xx.xx.xx] Our system has detected that this message is suspicious due to the ver": (
        "gmail-reputation-domain"
    ),
    "421 4.7.28": "gmail-rate",
    "450 4.2.1 The user": "gmail-receiving-rate",
    "451 4.3.0 Mail server": "storage",
    "452 4.2.2 The email": "mailbox-full",
    "421-4.7.0 [100.100.100.100] Our system": "gmail-rate",
    "421 4.7.1 [TS03]": "yahoo-ts03",
    "451 Message temporarily deferred - [": "yahoo-busy",
    "452 <email@mydomain.com> Mailbox delivery": "policy-restricted",
    "451 4.7.1 Received too many": "greylisted",
    "451 Internal resource": "mimecast",
    "451 4.4.2 This is a really long": "network",
    "550 5.5.0 mailbox unavailable": "unknown-user",
    "421 Max message per connection": "too-many",
    "421 Message from 100.100.100.100 temp": "yahoo-deferred",
    "450 User is receiving": "too-many",
    "451 4.3.2 Internal server error": "storage",
    "451 example.yahoo.com Resources": "yahoo-busy",
    "451 mta349.mail.mud.yahoo.com": "yahoo-busy",
    "452 temporary domain failure": "no-domain",
}


def one(text: str) -> Explanation:
    (found,) = explain(text)
    return found


@pytest.mark.parametrize(("domain", "text"), collected())
def test_what_large_providers_say_is_understood(domain: str, text: str) -> None:
    found = one(text)
    (expected,) = {row for beginning, row in READ.items() if found.said.startswith(beginning)}
    assert found.id == expected
    assert found.permanent is (text[0] == "5")


@pytest.mark.parametrize(
    ("text", "row", "move"),
    [
        ("550 5.7.26 This message does not pass authentication checks", "gmail-unauthenticated", Move.OURS),
        ("550 5.7.26", "gmail-unauthenticated", Move.OURS),
        (
            "421 4.7.26 This email has been rate limited because it is unauthenticated. Gmail requires all senders to "
            "authenticate with either SPF or DKIM. - gsmtp",
            "gmail-unauthenticated",
            Move.OURS,
        ),
        (
            "550-5.7.26 Unauthenticated email from hoge.example is not accepted due to domain's DMARC policy. - gsmtp",
            "gmail-dmarc-policy",
            Move.OURS,
        ),
        (
            "451 4.7.26 Unauthenticated email from hoge.example is not accepted, but temporary DNS failures prevent "
            "authentication - gsmtp",
            "gmail-dmarc-dns",
            Move.WAIT,
        ),
        (
            "550 5.7.25 The IP address sending this message does not have a PTR record",
            "gmail-ptr",
            Move.RELAY,
        ),
        ("451 4.7.23", "gmail-ptr-code", Move.RELAY),
        (
            "550 5.7.24 The SPF record of the sending domain has one or more suspicious entries.",
            "gmail-spf-wide",
            Move.OURS,
        ),
        (
            "421 4.7.27 Your email has been rate limited because SPF authentication didn't pass",
            "gmail-spf",
            Move.OURS,
        ),
        ("550 5.7.30 DKIM = Did not pass.", "gmail-dkim", Move.OURS),
        ("550 5.7.40 the sending domain doesn't have a DMARC record", "gmail-no-dmarc", Move.OURS),
        ("421 5.7.32 the From: header (RFC5322) in this message isn't aligned", "gmail-alignment", Move.OURS),
        (
            "421 4.7.28 Gmail has detected this sender exceeded the quota for sending messages that have the same "
            "Message-ID:.",
            "gmail-rate-message-id",
            Move.OURS,
        ),
        (
            "421 4.7.28 unsolicited email originating from your DKIM domain hoge.example",
            "gmail-rate-domain",
            Move.OURS,
        ),
        (
            "550 5.7.1 Messages missing a valid Message-ID: header are not accepted - gsmtp",
            "gmail-message-id",
            Move.OURS,
        ),
        (
            "550 5.7.1 This message is not RFC 5322 compliant because it has duplicate headers. gsmtp",
            "gmail-headers",
            Move.OURS,
        ),
        (
            "552 5.3.4 Your message exceeded Google's message header size limits.",
            "gmail-header-size",
            Move.OURS,
        ),
        ("554 5.4.6 Message exceeded 50 hops, this may indicate an email loop.", "loop", Move.OURS),
        (
            "550 5.7.1 This message violates example.com email policy. - gcdp x - gsmtp",
            "gmail-policy",
            Move.RECIPIENT,
        ),
        (
            "550 5.7.515 Access denied, sending domain hoge.example doesn't meet the required authentication level.",
            "outlook-requirements",
            Move.OURS,
        ),
        (
            "550 5.7.1 Unfortunately, messages from [203.0.113.10] weren't sent. Please contact your Internet service "
            "provider since part of their network is on our block list (S3150).",
            "outlook-block-list",
            Move.RELAY,
        ),
        (
            "550 SC-002 Mail rejected by Outlook.com for policy reasons. The mail server IP connecting to it has "
            "exhibited namespace mining behavior.",
            "outlook-mining",
            Move.OURS,
        ),
        (
            "421 RP-001 (SNT004) Unfortunately, some messages from 192.0.2.1 weren't sent",
            "outlook-rate",
            Move.WAIT,
        ),
        ("550 5.7.606 Access denied, banned sending IP [203.0.113.10]", "outlook-banned", Move.RELAY),
        (
            "254 4.7.1 Suppression for user ocid1.user.oc1..aaaa to carol@mailbox.example",
            "relay-suppressed",
            Move.OURS,
        ),
        (
            "535 Authorization failed: Envelope From address dave@outside.example not authorized",
            "relay-sender",
            Move.OURS,
        ),
        ("535 Authentication credentials invalid", "relay-password", Move.OURS),
        ("421 Too many auth failures, try again later", "relay-auth-failures", Move.OURS),
        ("455 Maximum messages sent per minute reached : limit is 10", "relay-rate", Move.WAIT),
        ("552 Exceeds byte limit", "relay-size", Move.OURS),
        ("554 Message parse error", "relay-parse", Move.OURS),
        (
            "553 5.7.1 <bob@hoge.example>: Sender address rejected: not owned by user alice@hoge.example",
            "own-login",
            Move.OURS,
        ),
        ("554 5.7.1 <carol@mailbox.example>: Relay access denied", "relaying-denied", Move.PROVIDER),
        (
            "550 5.1.1 <nobody@hoge.example>: Recipient address rejected: User unknown",
            "unknown-user",
            Move.OURS,
        ),
        ("550 5.2.1 no words at all here", "disabled", Move.RECIPIENT),
        (
            "554 5.7.1 Service unavailable; Client host [203.0.113.10] blocked using zen.spamhaus.org",
            "spamhaus",
            Move.RELAY,
        ),
    ],
)
def test_each_known_reply_has_its_row_and_whose_move_it_is(text: str, row: str, move: Move) -> None:
    found = one(text)
    assert (found.id, found.move) == (row, move)
    assert found.todo
    assert found.source


# The codes of the providers' own pages, without their words: what a log often has, cut off.
CODES = {
    "gmail-ptr-code": ["451 4.7.23", "550 5.7.25"],
    "gmail-spf-wide": ["451 4.7.24", "550 5.7.24"],
    "gmail-unauthenticated": ["421 4.7.26", "550 5.7.26"],
    "gmail-dmarc-dns": ["451 4.7.26"],
    "gmail-spf": ["421 4.7.27", "550 5.7.27"],
    "gmail-rate-code": ["421 4.7.28", "550 5.7.28"],
    "gmail-tls-code": ["421 4.7.29", "550 5.7.29"],
    "gmail-dkim": ["421 4.7.30", "550 5.7.30"],
    "gmail-no-dmarc": ["421 4.7.31", "421 4.7.40", "550 5.7.40"],
    "gmail-alignment": ["421 4.7.32", "421 5.7.32", "550 5.7.32"],
    "gmail-receiving-rate-code": ["450 4.2.1 - gsmtp"],
    "gmail-inactive": ["550 5.2.1 - gsmtp"],
    "gmail-attachment": ["552 5.7.0 - gsmtp"],
    "gmail-recipients": ["452 4.5.3 - gsmtp"],
    "gmail-size": ["552 5.3.4 - gsmtp"],
    "full": ["452 4.2.2", "552 5.2.2"],
    "bad-destination": ["550 5.1.1"],
    "bad-destination-domain": ["553 5.1.2"],
    "bad-address": ["553 5.1.3", "553 5.1.7"],
    "recipients": ["452 4.5.3"],
    "storage": ["451 4.3.0"],
    "large": ["552 5.3.4"],
    "malformed": ["554 5.6.0"],
    "loop": ["554 5.4.6"],
    "outlook-requirements": ["550 5.7.515"],
    "outlook-rate": ["421 RP-001", "421 RP-002", "421 RP-003"],
    "outlook-sc": ["550 SC-001", "550 SC-004"],
    "outlook-mining": ["550 SC-002"],
    "outlook-open-relay": ["550 SC-003"],
    "outlook-dynamic": ["550 DY-001", "550 DY-002"],
    "outlook-block-list": ["550 OU-001"],
    "outlook-ou": ["550 OU-002"],
    "yahoo-deferred": ["421 4.7.0 [TSS04]"],
    "yahoo-ts03": ["451 4.7.1 [TS03]"],
}


@pytest.mark.parametrize(("row", "text"), [(row, text) for row, texts in CODES.items() for text in texts])
def test_a_code_of_theirs_alone_is_understood(row: str, text: str) -> None:
    found = one(text)
    assert found.id == row
    assert found.todo
    if row.startswith("gmail"):
        assert found.provider == "Gmail"


# --- formatting --------------------------------------------------------------------------------------------------

WORDS = "Unauthenticated email from hoge.example is not accepted due to domain's DMARC policy"
BOUNCE = """\
From: MAILER-DAEMON@mx.hoge.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b

<carol@gmail.com>: host gmail-smtp-in.l.google.com[192.0.2.27] said: 550-5.7.26
    Unauthenticated email from hoge.example is not accepted due to domain's
    550-5.7.26 DMARC policy. 550 5.7.26 - gsmtp (in reply to end of DATA command)

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.hoge.example

Final-Recipient: rfc822; carol@gmail.com
Action: failed
Status: 5.7.26
Remote-MTA: dns; gmail-smtp-in.l.google.com
Diagnostic-Code: smtp; 550-5.7.26 Unauthenticated email from hoge.example is
    not accepted due to domain's 550-5.7.26 DMARC policy. - gsmtp

Final-Recipient: rfc822; erin@yahoo.com
Remote-MTA: dns; mta5.am0.yahoodns.net
Diagnostic-Code: smtp; 554 delivery error: dd This user doesn't have a yahoo.com account

--b--
"""


@pytest.mark.parametrize(
    "text",
    [
        f"550 5.7.26 {WORDS}. - gsmtp",
        f"550-5.7.26 {WORDS[:30]}\r\n550 5.7.26 {WORDS[30:]}",
        f"550-5.7.26 {WORDS[:40]}\\r\\n550 5.7.26{WORDS[40:]}",
        f"550,5.7.26 {WORDS}",
        f"  550 5.7.26\t{WORDS}\n\n",
        f"host gmail-smtp-in.l.google.com[192.0.2.27] said: 550-5.7.26 {WORDS} (in reply to end of DATA command)",
        f"Nov 24 06:01:01 mx postfix/smtp[550]: 4abc: to=<c@gmail.com>, relay=gmail-smtp-in.l.google.com[1.2.3.4]:25, "
        f"dsn=5.7.26, status=bounced (host gmail-smtp-in.l.google.com[1.2.3.4] said: 550-5.7.26 {WORDS} (in reply to "
        "end of DATA command))",
        f"smtplib.SMTPDataError: (550, b'5.7.26 {WORDS}')",
        f"The response from the remote server was:\n\n550 5.7.26 {WORDS}",
        f"{WORDS}, it said.",
    ],
)
def test_a_reply_is_recognised_however_it_was_pasted(text: str) -> None:
    found = one(text)
    assert found.id in ("gmail-dmarc-policy", "dmarc-failed"), found
    if "5.7.26" in text:
        assert found.id == "gmail-dmarc-policy"


def test_a_bounce_is_read_recipient_by_recipient() -> None:
    assert [each.id for each in explain(BOUNCE)] == ["gmail-dmarc-policy", "yahoo-no-user"]


def test_numbers_that_are_no_codes_are_not_taken_for_one() -> None:
    (reply,) = replies.find(
        "to=<a@b.example>, relay=192.0.2.250[192.0.2.250]:587, delay=554.3 said: 450 4.2.1 slow"
    )
    assert (reply.code, reply.enhanced) == (450, "4.2.1")


def test_what_is_in_no_table_is_said_to_be_so() -> None:
    assert one("599 5.9.9 xyzzy").id == ""
    assert explain(" \n ") == []


# --- the table ---------------------------------------------------------------------------------------------------


def test_every_row_can_be_reached_and_says_what_to_do() -> None:
    rows = table()
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.meaning.endswith("."), row.id
        assert row.todo, row.id
        assert row.codes or row.words, row.id
        for alternative in row.words:
            assert all(part == part.lower() and part for part in alternative), row.id


def test_the_topics_of_the_table_are_topics_of_the_check() -> None:
    known = {
        "addresses",
        "cloud",
        "dkim",
        "dmarc",
        "dns",
        "host",
        "message",
        "mx",
        "return-path",
        "spf",
        "submission",
        "tls",
    }
    assert {topic for row in table() for topic in row.topics} <= known


# --- hostile input -----------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "550",
        "5.7.26",
        "550-5.7.1",
        " said: ",
        "host x[",
        "Diagnostic-Code: smtp;",
        "Remote-MTA: dns; ",
        "\n",
        "\r\n",
        "\\n",
        "(in reply to",
        "421",
        "4.7.0",
        " ",
        "-",
        "gsmtp",
        "\x00",
        "\x1b[2J",
        "é",
        "--b",
        ";",
        "Final-Recipient: rfc822; a@b",
    ]
)


@given(st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=60).map("".join)))
@settings(max_examples=200, deadline=None)
def test_nothing_that_is_pasted_makes_it_fail(text: str) -> None:
    for found in explain(text):
        assert found.said
        assert "\n" not in found.said
        assert all(shown(found))
        json.dumps(found.as_json())


@pytest.mark.parametrize(
    "piece",
    [
        "550-5.7.1 a\n",
        "host x said: ",
        "Diagnostic-Code: smtp; 550\n ",
        "550 ",
        "5.5.",
        "\n\n\n ",
        "said:" + " " * 50,
    ],
)
def test_a_huge_paste_is_read_in_no_time(piece: str) -> None:
    begun = time.process_time()
    explain(piece * (2_000_000 // len(piece)))
    assert time.process_time() - begun < 3


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_explains_and_says_whose_move_it_is() -> None:
    done = CliRunner().invoke(app, ["explain", "550", "5.7.26", "unauthenticated"])
    assert done.exit_code == 0
    assert "Your move" in done.output
    assert "todoku check dkim" in done.output
    assert "support.google.com" in done.output


def test_the_command_reads_a_bounce_from_standard_input() -> None:
    done = CliRunner().invoke(app, ["explain", "--json"], input=BOUNCE)
    told = json.loads(done.output)
    assert [each["id"] for each in told["replies"]] == ["gmail-dmarc-policy", "yahoo-no-user"]
    assert told["ok"] is True


def test_the_command_says_when_there_is_nothing_to_explain() -> None:
    assert CliRunner().invoke(app, ["explain"], input=" ").exit_code == 2
    assert CliRunner().invoke(app, ["explain", "599 5.9.9 xyzzy"]).exit_code == 1
