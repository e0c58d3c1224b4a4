# The head that comes back says everything, to those who can read it. The three heads here have the form in which Gmail,
# Yahoo and Outlook write them.

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internet_for_checks import rules
from typer.testing import CliRunner

from todoku.check import send
from todoku.check.authentication_results import results
from todoku.check.finding import Verdict
from todoku.check.received import look
from todoku.cli.main import app

sys.path.insert(0, str(Path(__file__).parent))

REST = """\
Received: by omta-ad1-fd1-401-ap-tokyo-1.omtaad1.vcndpnrt.oraclevcn.com (Oracle Communications Messaging Server 8.1)
 with ESMTPS id <0T@omta.oraclevcn.com> for carol@gmail.com; Tue, 24 Nov 2026 08:59:01 +0000 (GMT)
From: Alice <alice@hoge.example>
Subject: Does it arrive?

text
"""
GMAIL = (
    """\
Delivered-To: carol@gmail.com
Received: from aib29agh124.nrt1.oracleemaildelivery.com (aib29agh124.nrt1.oracleemaildelivery.com. [192.29.178.124])
        by mx.google.com with ESMTPS id d2e1a72fcca58-7f for <carol@gmail.com>
        (version=TLS1_2 cipher=ECDHE-ECDSA-AES128-GCM-SHA256 bits=128/128);
        Tue, 24 Nov 2026 00:59:03 -0800 (PST)
Authentication-Results: mx.google.com;
       dkim=pass header.i=@hoge.example header.s=todoku-nrt1 header.b=abcdefgh;
       dkim=pass header.i=@nrt1.rp.oracleemaildelivery.com header.s=prod-nrt-20200406 header.b=hgfedcba;
       spf=pass (google.com: domain of bounce@nrt1.rp.hoge.example designates 192.29.178.124 as permitted sender)
        smtp.mailfrom="bounce@nrt1.rp.hoge.example";
       dmarc=pass (p=NONE sp=NONE dis=NONE) header.from=hoge.example
"""
    + REST
)
YAHOO = (
    """\
Received: from 192.29.178.124 (EHLO aib29agh124.nrt1.oracleemaildelivery.com)
 by 10.253.1.1 with SMTPS
 (version=TLS1_2 cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384); Tue, 24 Nov 2026 08:59:04 +0000
Authentication-Results: atlas-production.v2-mail-prod1-gq1.omega.yahoo.com;
 dkim=pass header.i=@hoge.example header.s=todoku-nrt1;
 dkim=pass header.i=@nrt1.rp.oracleemaildelivery.com header.s=prod-nrt-20200406;
 spf=pass smtp.mailfrom=nrt1.rp.hoge.example;
 dmarc=pass(p=NONE) header.from=hoge.example;
"""
    + REST
)
OUTLOOK = (
    """\
Received: from aib29agh124.nrt1.oracleemaildelivery.com (192.29.178.124) by
 AM7EUR06FT036.mail.protection.outlook.com (10.233.255.43) with Microsoft SMTP
 Server (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id
 15.20.8158.0 via Frontend Transport; Tue, 24 Nov 2026 08:59:05 +0000
Authentication-Results: spf=pass (sender IP is 192.29.178.124)
 smtp.mailfrom=nrt1.rp.hoge.example; dkim=pass (signature was verified)
 header.d=hoge.example;dmarc=pass action=none
 header.from=hoge.example;compauth=pass reason=100
X-Forefront-Antispam-Report: CIP:192.29.178.124;CTRY:JP;LANG:en;SCL:1;SRV:;IPV:NLI;SFV:NSPM
"""
    + REST
)
HEADS = {"Gmail": GMAIL, "Yahoo": YAHOO, "Outlook": OUTLOOK}


@pytest.mark.parametrize("provider", HEADS)
def test_mail_that_arrived_well_passes(provider: str) -> None:
    found = look(HEADS[provider].encode())
    assert {finding.verdict for finding in found} == {Verdict.PASS}, found
    assert {"received.spf", "received.dkim", "received.dmarc", "received.relay", "received.tls"} <= rules(
        found, Verdict.PASS
    )


@pytest.mark.parametrize("provider", HEADS)
@pytest.mark.parametrize(
    ("pattern", "instead", "failing"),
    [
        (r"spf=pass", "spf=softfail", {"received.spf"}),
        (r"(?s)dkim=pass(?=.*?hoge\.example)", "dkim=fail", {"received.dkim"}),
        (r"dmarc=pass", "dmarc=fail", {"received.dmarc"}),
        (
            r"(?s)oraclevcn\.com|Oracle Communications Messaging Server|\S+oracleemaildelivery\.com",
            "x",
            {"received.relay"},
        ),
    ],
)
def test_what_did_not_pass_is_told(provider: str, pattern: str, instead: str, failing: set[str]) -> None:
    text = re.sub(pattern, instead, HEADS[provider])
    assert rules(look(text.encode()), Verdict.FAIL) >= failing


def test_oracles_own_signature_alone_is_not_ours() -> None:
    found = look(GMAIL.replace("header.i=@hoge.example", "header.i=@other.example").encode())
    assert rules(found, Verdict.FAIL) == {"received.dkim"}
    assert "only somebody else's" in next(f.seen for f in found if f.rule == "received.dkim")


def test_what_somebody_else_wrote_further_down_does_not_count() -> None:
    forged = "Authentication-Results: mx.google.com; dmarc=fail header.from=hoge.example\r\n"
    assert not rules(look(GMAIL.replace("From: Alice", f"{forged}From: Alice").encode()), Verdict.FAIL)


def test_a_comment_cannot_pass_for_a_result() -> None:
    (spf, *_) = results(
        "mx.example; spf=fail (evil; spf=pass (nested) smtp.mailfrom=x) smtp.mailfrom=a@b.example"
    )
    assert (spf.result, spf.domain) == ("fail", "b.example")


@pytest.mark.parametrize(
    ("change", "rule", "verdict"),
    [
        (lambda text: text.replace("SCL:1;", "SCL:6;"), "received.folder", Verdict.FAIL),
        (lambda text: "X-Spam-Flag: YES\n" + text, "received.folder", Verdict.FAIL),
        (lambda text: text.replace("08:59:05", "09:59:05"), "received.delay", Verdict.WARN),
        (lambda text: text.replace("version=TLS1_2, ", ""), "received.tls", Verdict.WARN),
    ],
)
def test_spam_delay_and_missing_tls_are_told(change: object, rule: str, verdict: Verdict) -> None:
    assert callable(change)
    text = change(OUTLOOK)
    if rule == "received.tls":
        text = text.replace("with ESMTPS", "with ESMTP").replace("cipher=TLS_ECDHE", "cipher=X")
    assert rule in rules(look(text.encode()), verdict), look(text.encode())


def test_the_folder_counts_when_it_is_known() -> None:
    assert rules(look(GMAIL.encode(), "[Gmail]/Spam"), Verdict.FAIL) == {"received.folder"}
    assert not rules(look(GMAIL.encode(), "INBOX"), Verdict.FAIL)


def test_a_head_without_anything_in_it_is_unknown_and_not_good() -> None:
    found = look(b"Subject: x\r\n\r\ntext")
    assert not rules(found, Verdict.PASS)
    assert rules(found, Verdict.UNKNOWN) >= {"received.spf", "received.dkim", "received.dmarc"}


PIECES = st.sampled_from(
    [
        "Authentication-Results: ",
        "spf=",
        "dkim=pass",
        "dmarc=fail",
        " (",
        ")",
        "((",
        '"',
        "\\",
        ";",
        "header.d=a.example",
        "\r\n",
        " ",
        "Received: from x by y with ESMTPS;",
        "Tue, 99 Nov 2026 99:99:99 +9999",
        "From: a@b.example\r\n",
        "SCL:",
        "X-Spam: yes\r\n",
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=60).map(lambda p: "".join(p).encode())))
@settings(max_examples=150, deadline=None)
def test_no_head_makes_it_fail(raw: bytes) -> None:
    for finding in look(raw, "Junk"):
        json.dumps(finding.as_json())


# --- the message that is sent ------------------------------------------------------------------------------------


def test_the_probe_is_a_message_that_passes_every_row() -> None:
    from todoku.check import message

    now = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
    probe = send.compose("alice@hoge.example", "carol@mailbox.example", now)
    assert {f.verdict for f in message.look(probe.content, now)} == {Verdict.PASS}
    assert probe.message_id.encode() in probe.content
    assert probe.message_id != send.compose("alice@hoge.example", "carol@mailbox.example", now).message_id


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(send.Mailbox("imap.example", "carol", "secret"))


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (b'(\\HasNoChildren \\Junk) "/" "[Gmail]/Spam"', ["[Gmail]/Spam"]),
        (b'(\\HasNoChildren) "." INBOX', []),
        (b'(\\HasNoChildren) "/" "Bulk Mail"', ["Bulk Mail"]),
        (b'(\\Noselect) "/" "Junk"', []),
        (b"garbled", []),
        (b'(\\Junk) NIL "a \\"quoted\\" one"', ['a "quoted" one']),
    ],
)
def test_the_folders_for_spam_are_found(line: bytes, names: list[str]) -> None:
    class Listing:
        def list(self) -> Iterator[object]:
            return iter(("OK", [line, None]))

    assert list(send._junk(Listing())) == names  # type: ignore[arg-type]


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_explains_a_message_that_came_back(tmp_path: Path) -> None:
    file = tmp_path / "received.eml"
    file.write_text(GMAIL.replace("dmarc=pass", "dmarc=fail"))
    done = CliRunner().invoke(app, ["check", "send", "--received", str(file)])
    assert done.exit_code == 1
    assert "received.dmarc: dmarc=fail for hoge.example" in done.output


def test_the_command_wants_an_address_or_a_message() -> None:
    assert CliRunner().invoke(app, ["check", "send"]).exit_code == 2
    assert CliRunner().invoke(app, ["check", "send", "a@b.example", "--received", "-"]).exit_code == 2
