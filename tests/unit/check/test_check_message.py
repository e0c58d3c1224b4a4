# One message, and every way to get it wrong: each has its finding and no other failure, and nothing that a stranger can
# put into a file makes the judge fail.

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import idna
import pytest
from broken_messages import LETTER, MAILING, MUTATIONS, NOW, put, signed, without
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from todoku.check import message as judge
from todoku.check import providers
from todoku.check.finding import Finding, Verdict
from todoku.check.message import scripts
from todoku.check.message.parsing import parse
from todoku.cli.main import app


def wrong(findings: list[Finding], verdict: Verdict) -> set[str]:
    return {finding.rule for finding in findings if finding.verdict is verdict}


@pytest.mark.parametrize(
    "raw", [LETTER, MAILING, LETTER.replace(b"\r\n", b"\n")], ids=["letter", "mailing", "lf"]
)
def test_good_mail_passes_every_row_and_every_provider_takes_it(raw: bytes) -> None:
    findings = judge.look(raw, NOW)
    assert {f.verdict for f in findings} == {Verdict.PASS}, findings
    assert {j.outcome for j in providers.judge(findings)} == {"accepted"}


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
        signed("i=alice@news.hoge.example"),
        signed("t=1790000000", "x=2100000000"),
        b"Received: from a by b; x\r\n" + signed("t=1700000000", "x=1700604800"),  # it held when it arrived
    ):
        assert {f.verdict for f in judge.look(fine, NOW)} == {Verdict.PASS}, fine


@pytest.mark.parametrize(
    "name",
    [
        "b\u00fccher",
        "\u3054\u6ce8\u6587\u30e1\u30fc\u30ebmail",
        "\u043f\u0440\u0438\u0432\u0435\u0442",
        "\uba54\uc77c-1",
        "\u00fcber-2",
    ],
)
def test_international_names_in_one_script_or_in_what_belongs_together_pass(name: str) -> None:
    domain = idna.encode(name).decode()
    found = judge.look(put(f"From: a@{domain}.example".encode()), NOW)
    assert {f.verdict for f in found} == {Verdict.PASS}, found
    assert "message.script" in {f.rule for f in found}


@pytest.mark.parametrize(
    "name", ["\u0440aypal", "g\u03bfogle", "\u0430\u0440\u0440le-\u65e5", "\u30abtakana\ub9d0"]
)
def test_names_that_mix_scripts_are_told(name: str) -> None:
    domain = idna.encode(name).decode()
    assert "mixes" in scripts.mixed(f"mail.{domain}.example")
    assert scripts.mixed("mail.hoge.example") == scripts.mixed("xn--a.example") == ""


def test_whether_it_is_a_mailing_can_be_said() -> None:
    assert "message.unsubscribe" in wrong(judge.look(LETTER, NOW, is_bulk=True), Verdict.FAIL)
    assert not wrong(judge.look(without(b"List-Unsubscribe", MAILING), NOW, is_bulk=False), Verdict.FAIL)


# --- hostile messages --------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        b"From: a@b.example",
        b"From: <",
        b"From: a@xn--.example",
        b"From: a@xn--0.xn--a.example",
        b"From: a@xn--" + b"9" * 60 + b".example",
        b'To: "' + b"A" * 300 + b'" <a@b.example>, (((',
        b"DKIM-Signature: v=1; l=999999999999999999999; h=::; c=/; q=:; t=x; x=-1; b==; =; ;;",
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
