# One message, and every way to get it wrong: each has its finding and no other failure, and nothing that a stranger can
# put into a file makes the judge fail.

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from todoku.check import message as judge
from todoku.check import providers
from todoku.check.finding import Finding, Verdict
from todoku.check.message.parsing import parse
from todoku.cli.main import app

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LETTER = b"""\
From: Alice <alice@hoge.example>
To: carol@mailbox.example
Subject: =?utf-8?b?44GU5rOo5paH?=
Date: Tue, 24 Nov 2026 08:59:00 +0000
Message-ID: <20261124085900.1@hoge.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

\xe3\x81\x94\xe6\xb3\xa8\xe6\x96\x87
""".replace(b"\n", b"\r\n")
MAILING = b"""\
From: Hoge <news@hoge.example>
To: carol@mailbox.example
Subject: News in November
Date: Tue, 24 Nov 2026 08:59:00 +0000
Message-ID: <20261124085900.2@hoge.example>
List-ID: <news.hoge.example>
List-Unsubscribe: <mailto:leave@hoge.example>, <https://hoge.example/u/ab12>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
Feedback-ID: nov:news:hoge1
MIME-Version: 1.0
Content-Type: text/html; charset=utf-8

<p>News. <a href="https://hoge.example/u/ab12">Unsubscribe</a></p>
""".replace(b"\n", b"\r\n")


def wrong(findings: list[Finding], verdict: Verdict) -> set[str]:
    return {finding.rule for finding in findings if finding.verdict is verdict}


@pytest.mark.parametrize(
    "raw", [LETTER, MAILING, LETTER.replace(b"\r\n", b"\n")], ids=["letter", "mailing", "lf"]
)
def test_good_mail_passes_every_row_and_every_provider_takes_it(raw: bytes) -> None:
    findings = judge.look(raw, NOW)
    assert {f.verdict for f in findings} == {Verdict.PASS}, findings
    assert {j.outcome for j in providers.judge(findings)} == {"accepted"}


def without(name: bytes, raw: bytes = LETTER) -> bytes:
    return b"\r\n".join(
        line for line in raw.split(b"\r\n") if not line.lower().startswith(name.lower() + b":")
    )


def put(line: bytes, raw: bytes = LETTER) -> bytes:
    """With that header in the place of the one of its name, or added."""
    return line + b"\r\n" + without(line.partition(b":")[0], raw)


# name -> the message, and the rules that fail, and those that warn
MUTATIONS: dict[str, tuple[bytes, set[str], set[str]]] = {
    "no From": (without(b"From"), {"message.from"}, set()),
    "two From": (b"From: bob@hoge.example\r\n" + LETTER, {"message.from", "message.single"}, set()),
    "two addresses in From": (put(b"From: alice@hoge.example, bob@hoge.example"), {"message.from"}, set()),
    "From without an address": (put(b"From: Alice"), {"message.from"}, set()),
    "From with a group": (put(b"From: us: alice@hoge.example;"), {"message.from"}, set()),
    "From with trailing junk": (put(b"From: <alice@hoge.example> x"), {"message.from"}, set()),
    "another address as a name": (
        put(b'From: "ceo@big.example" <alice@hoge.example>'), set(), {"message.display-name"},
    ),
    "emoji in the name": (put(b"From: =?utf-8?q?=F0=9F=8E=81?= <alice@hoge.example>"), set(), {"message.display-name"}),
    "the subject as a name": (
        put(b"From: News in November <news@hoge.example>", MAILING), set(), {"message.display-name"},
    ),
    "From at Gmail": (put(b"From: alice@gmail.com"), {"message.freemail"}, set()),
    "From at GMAIL": (put(b"From: alice@GMAIL.com"), {"message.freemail"}, set()),
    "From without a dot": (put(b"From: root@mx"), {"message.from-domain"}, set()),
    "From at .local": (put(b"From: root@mx.local"), {"message.from-domain"}, set()),
    "nobody answers": (put(b"From: noreply@hoge.example"), set(), {"message.reply"}),
    "Reply-To nobody": (put(b"Reply-To: no-reply@hoge.example"), set(), {"message.reply"}),
    "Reply-To broken": (put(b"Reply-To: <<x"), set(), {"message.reply"}),
    "no Message-ID": (without(b"Message-ID"), {"message.message-id"}, set()),
    "Message-ID without brackets": (put(b"Message-ID: 1@hoge.example"), {"message.message-id"}, set()),
    "Message-ID without @": (put(b"Message-ID: <1>"), {"message.message-id"}, set()),
    "Message-ID with trailing junk": (put(b"Message-ID: <1@hoge.example> x"), {"message.message-id"}, set()),
    "no Date": (without(b"Date"), {"message.date"}, set()),
    "no such date": (put(b"Date: yesterday"), {"message.date"}, set()),
    "Date in the future": (put(b"Date: Tue, 24 Nov 2036 08:59:00 +0000"), {"message.date"}, set()),
    "Date of 1970": (put(b"Date: Thu, 01 Jan 1970 00:00:00 +0000"), {"message.date"}, set()),
    "Date of last month": (put(b"Date: Sat, 24 Oct 2026 08:59:00 +0000"), set(), {"message.date"}),
    "two Date": (b"Date: Tue, 24 Nov 2026 08:59:00 +0000\r\n" + LETTER, {"message.single"}, set()),
    "two To": (b"To: x@mailbox.example\r\n" + LETTER, {"message.single"}, set()),
    "two Subject": (b"Subject: x\r\n" + LETTER, {"message.single"}, set()),
    "two SUBJECT": (b"SUBJECT: x\r\n" + LETTER, {"message.single"}, set()),
    "two Content-Type": (b"Content-Type: text/plain\r\n" + LETTER, {"message.single"}, set()),
    "no Subject": (without(b"Subject"), set(), {"message.subject"}),
    "Re: without an answer": (put(b"Subject: Re: your order"), set(), {"message.subject"}),
    "raw bytes in a header": (put("Subject: ご注文".encode()), {"message.encoding"}, set()),
    "encoded word cut off": (put(b"Subject: =?utf-8?b?44G?="), {"message.encoding"}, set()),
    "encoded word in no charset": (put(b"Subject: =?utf-99?q?a?="), {"message.encoding"}, set()),
    "encoded word in Message-ID": (
        put(b"Message-ID: <=?utf-8?q?a?=@hoge.example>"), {"message.encoding"}, set(),
    ),
    "encoded word as an address": (
        put(b"Cc: =?utf-8?q?a?=@hoge.example"), {"message.encoding"}, set(),
    ),
    "a line that is no header": (LETTER.replace(b"To:", b"this is none\r\nTo:", 1), {"message.form"}, set()),
    "a space before the first header": (b" x\r\n" + LETTER, {"message.form"}, set()),
    "an mbox line": (b"From alice Tue Nov 24 08:59:00 2026\r\n" + LETTER, set(), {"message.form"}),
    "a NUL": (LETTER + b"\0", {"message.form"}, set()),
    "a bare CR": (LETTER + b"a\rb\r\n", {"message.form"}, set()),
    "bare LF beside CR LF": (LETTER + b"a\nb\r\n", set(), {"message.form"}),
    "a line of 1000": (LETTER + b"x" * 1000 + b"\r\n", {"message.form"}, set()),
    "8-bit text that says 7bit": (without(b"Content-Transfer-Encoding"), {"message.form"}, set()),
    "no such encoding": (put(b"Content-Transfer-Encoding: 9bit"), {"message.form"}, set()),
    "multipart without a boundary": (put(b"Content-Type: multipart/mixed"), {"message.form"}, set()),
    "a boundary that is nowhere": (put(b'Content-Type: multipart/mixed; boundary="b"'), {"message.form"}, set()),
    "no such type": (put(b"Content-Type: text"), {"message.form"}, set()),
    "headers beyond 256 KiB": (b"".join(b"X-%d: %s\r\n" % (n, b"x" * 900) for n in range(300)) + LETTER,
                               {"message.size"}, set()),
    "1001 headers": (b"X: y\r\n" * 1001 + LETTER, {"message.size"}, set()),
    "mailing without List-Unsubscribe": (without(b"List-Unsubscribe", MAILING), {"message.unsubscribe"}, set()),
    "mailto alone": (put(b"List-Unsubscribe: <mailto:leave@hoge.example>", MAILING), {"message.unsubscribe"}, set()),
    "http instead of https": (
        put(b"List-Unsubscribe: <http://hoge.example/u>", MAILING), {"message.unsubscribe"}, set(),
    ),
    "two https": (
        put(b"List-Unsubscribe: <https://hoge.example/u>, <https://hoge.example/v>", MAILING),
        {"message.unsubscribe"}, set(),
    ),
    "no brackets": (put(b"List-Unsubscribe: https://hoge.example/u", MAILING), {"message.unsubscribe"}, set()),
    "no Post": (without(b"List-Unsubscribe-Post", MAILING), {"message.unsubscribe"}, set()),
    "another Post": (put(b"List-Unsubscribe-Post: one-click", MAILING), {"message.unsubscribe"}, set()),
    "the signature does not cover it": (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=hoge.example; s=s; h=From:Feedback-ID; bh=x; b=" + b"A" * 344 + b"\r\n"
        + MAILING, {"message.unsubscribe"}, set(),
    ),
    "no link in the text": (MAILING.replace(b"Unsubscribe</a>", b"here</a>"), {"message.unsubscribe-link"}, set()),
    "Feedback-ID too short": (put(b"Feedback-ID: a:b:c", MAILING), set(), {"message.feedback-id"}),
    "hidden text": (
        MAILING.replace(b"<p>News.", b'<p>News. <span style="font-size:0px">' + b"cheap " * 100 + b"</span>"),
        set(), {"message.hidden"},
    ),
    "a link that deceives": (
        MAILING.replace(b"<p>News.", b'<p><a href="https://evil.example/">https://bank.example/login</a>'),
        set(), {"message.hidden"},
    ),
    "a key of 512 bits": (
        b"DKIM-Signature: a=rsa-sha256; d=hoge.example; s=s; h=from; b=" + b"A" * 84 + b"AA==\r\n" + LETTER,
        {"dkim.length"}, set(),
    ),
    "a key of 1024 bits": (
        b"DKIM-Signature: a=rsa-sha256; d=hoge.example; s=s; h=from; b=" + b"A" * 171 + b"=\r\n" + LETTER,
        set(), {"dkim.length"},
    ),
    "signed with SHA-1": (b"DKIM-Signature: a=rsa-sha1; d=hoge.example; s=s; h=from; b=AAAA\r\n" + LETTER,
                          {"dkim.length"}, set()),
    "the receiver says that DMARC failed": (
        b"Authentication-Results: mx.mailbox.example; spf=pass; dkim=pass; dmarc=fail (p=none)\r\n" + LETTER,
        {"message.authentication"}, set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mistake_has_its_finding_and_no_other(name: str) -> None:
    raw, failing, warning = MUTATIONS[name]
    findings = judge.look(raw, NOW)
    assert wrong(findings, Verdict.FAIL) == failing, findings
    assert wrong(findings, Verdict.WARN) == warning, findings
    assert all(finding.advice for finding in findings if finding.verdict is not Verdict.PASS)


def test_what_looks_odd_and_is_right_is_not_complained_about() -> None:
    for fine in (
        put(b"From: =?utf-8?b?44Ki44Oq44K5?= <alice@hoge.example>"),
        put(b'From: "Alice (Hoge), Ltd." <alice@hoge.example>'),
        put(b"Subject: Re: your order\r\nIn-Reply-To: <1@mailbox.example>"),
        put(b"Subject: Rechnung: November"),
        put(b"Received: from a by b; Tue, 24 Nov 2026 08:59:00 +0000\r\nReceived: from c by d; x"),
        put(b"To: a@mailbox.example,\r\n b@mailbox.example,\r\n\tc@mailbox.example"),
        LETTER + b"x" * 998 + b"\r\n",
    ):
        assert {f.verdict for f in judge.look(fine, NOW)} == {Verdict.PASS}, fine


def test_whether_it_is_a_mailing_can_be_said() -> None:
    assert "message.unsubscribe" in wrong(judge.look(LETTER, NOW, is_bulk=True), Verdict.FAIL)
    assert not wrong(judge.look(without(b"List-Unsubscribe", MAILING), NOW, is_bulk=False), Verdict.FAIL)


# --- hostile messages --------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        b"From: a@b.example",
        b"From: <",
        b"From: =?utf-8?b?/w==?= <a@b.example>",
        b"To: " + b"x@y, " * 300,
        b"Date: 9",
        b"Date: Tue, 99 Nov 99999 99:99:99 +9999",
        b"Message-ID: <a@b>",
        b"Subject: =?x?q?=?=",
        b"Content-Type: multipart/mixed; boundary=b",
        b"--b",
        b"--b--",
        b"",
        b" folded",
        b"\tfolded",
        b":",
        b"X",
        b"\xff\xfe: \x80",
        b"Content-Type: message/rfc822",
        b"Content-Transfer-Encoding: base64",
        b"DKIM-Signature: a=rsa-sha256; b=!!; h=:::",
        b"List-Unsubscribe: <https://[>",
        b'<a href="http://[::1">x.example</a>',
        b"<div style='display:none'>" * 20,
        b"Content-Type: text/html; charset=no-such",
        b"Authentication-Results: x; dmarc=fail",
        b"Feedback-ID: ::::",
        b"Reply-To: (((",
        b'From: "' + b"\\" * 999,
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\n", b"\r"])


def _joined(lines: list[bytes]) -> st.SearchStrategy[bytes]:
    return ENDS.map(lambda end: end.join(lines))


HOSTILE = st.one_of(
    st.binary(max_size=600),
    st.lists(LINES, max_size=40).flatmap(_joined),
)


@given(HOSTILE)
@settings(max_examples=200, deadline=None)
def test_no_message_makes_the_judge_fail(raw: bytes) -> None:
    for finding in judge.look(raw, NOW):
        json.dumps(finding.as_json()).encode("ascii")


@given(st.binary(max_size=200), st.integers(0, len(MAILING)), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_a_damaged_message_is_looked_at_all_the_same(junk: bytes, at: int, cut: int) -> None:
    assert judge.look(MAILING[:at] + junk + MAILING[at + cut :], NOW)


@given(st.binary(max_size=400))
def test_the_header_section_is_cut_without_a_loss(raw: bytes) -> None:
    message = parse(raw)
    assert message.header_size + len(message.body) <= len(raw)


@pytest.mark.parametrize(
    "piece",
    [
        b"From: a@b.example\r\n",
        b"<div hidden>",
        b"\n",
        b"a\r",
        b"=?utf-8?q?a?= ",
        b"--b\r\n",
        b"<a href=x>",
        b"\x80",
    ],
)
@pytest.mark.parametrize("where", ["head", "body"])
def test_a_large_hostile_message_takes_no_time(piece: bytes, where: str) -> None:
    large = piece * (3_000_000 // len(piece))
    raw = large + LETTER if where == "head" else MAILING + large
    begun = time.process_time()
    judge.look(raw, NOW)
    assert time.process_time() - begun < 10


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_wrong_and_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "letter.eml"
    file.write_bytes(without(b"Message-ID"))
    done = CliRunner().invoke(app, ["check", "message", str(file), "--only-problems"])
    assert done.exit_code == 1
    assert "FAIL    message.message-id: there is no Message-ID" in done.output
    assert "PASS" not in done.output
    assert "Gmail    refused because Message-ID is missing or wrong" in done.output


def test_the_command_reads_standard_input_and_prints_json() -> None:
    fresh = put(f"Date: {datetime.now(UTC):%a, %d %b %Y %H:%M:%S +0000}".encode())
    done = CliRunner().invoke(app, ["check", "message", "-", "--json"], input=fresh)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["ok"] is True
    assert [each["outcome"] for each in told["providers"]] == ["accepted"] * 3


def test_a_file_that_is_not_there_is_named() -> None:
    done = CliRunner().invoke(app, ["check", "message", "/no/such/file.eml"])
    assert done.exit_code == 2
    assert "/no/such/file.eml cannot be read: No such file" in done.output
