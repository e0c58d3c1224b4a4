# People copy what they see: a window with a table above the source, a reply's quotation, lines that lost their
# indentation. And providers write in dialects: what passed must not be called a failure because of either.

from __future__ import annotations

import re

import authres
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internet_for_checks import rules
from test_check_received import GMAIL, HEADS, OUTLOOK, YAHOO

from todoku.check.authentication_results import results
from todoku.check.finding import Finding, Verdict
from todoku.check.pasted import source
from todoku.check.received import look

GMAILS_TABLE = """
Original message
Message ID\t<todoku-probe.1@hoge.example>
Created at:\tTue, Nov 24, 2026 at 8:59 AM (Delivered after 3 seconds)
From:\tAlice <alice@hoge.example>
To:\tcarol@gmail.com
Subject:\tDoes it arrive?
SPF:\tPASS with IP 192.29.178.124 Learn more
DKIM:\t'PASS' with domain hoge.example Learn more
DMARC:\t'PASS' Learn more

Download original
Copy to clipboard

"""
COPIES = {
    "with an empty line before it": lambda text: f"\n\r\n{text}",
    "with Gmail's table above it": lambda text: GMAILS_TABLE + text,
    "indented": lambda text: re.sub("^", "    ", text, flags=re.MULTILINE),
    "quoted": lambda text: re.sub("^", "> ", text, flags=re.MULTILINE),
    "without the indentation of folded lines": lambda text: re.sub(r"^[ \t]+", "", text, flags=re.MULTILINE),
    "with CR LF": lambda text: text.replace("\n", "\r\n"),
    "head alone": lambda text: text.partition("\n\n")[0],
    "beginning with a BOM": lambda text: f"\ufeff{text}",
}


def seen(found: list[Finding], rule: str) -> str:
    return next(f.seen for f in found if f.rule == rule)


@pytest.mark.parametrize("provider", HEADS)
@pytest.mark.parametrize("copied", COPIES)
def test_however_it_was_copied_it_is_read(provider: str, copied: str) -> None:
    found = look(COPIES[copied](HEADS[provider]).encode())
    assert {finding.verdict for finding in found} == {Verdict.PASS}, found
    assert "received.dmarc" in rules(found, Verdict.PASS)


def test_what_notepad_saves_is_read() -> None:
    assert rules(look(YAHOO.encode("utf-16")), Verdict.PASS) >= {"received.dmarc", "received.relay"}


def test_a_message_that_nobody_received_stays_as_it_is() -> None:
    assert (
        source(b"\r\nFrom: a@b.example\n\nReceived it well.\n")
        == b"\r\nFrom: a@b.example\n\nReceived it well.\n"
    )


# --- dialects ------------------------------------------------------------------------------------------------------


def test_yahoos_words_for_a_pass_are_one() -> None:
    text = YAHOO.replace("dmarc=pass(p=NONE)", "dmarc=success(p=REJECT)")
    text = text.replace("dkim=pass header.i=@hoge", "dkim=dkim_pass header.i=@hoge")
    assert {f.verdict for f in look(text.encode())} == {Verdict.PASS}


def test_yahoos_unknown_is_none_at_all() -> None:
    text = re.sub(r"dkim=pass header.i=\S+ header.s=\S+;", "dkim=unknown;", YAHOO)
    found = look(text.replace("dmarc=pass(p=NONE)", "dmarc=unknown").encode())
    assert seen(found, "received.dkim") == "the receiver saw no DKIM signature"
    (dmarc,) = [f for f in found if f.rule == "received.dmarc"]
    assert "found no record for hoge.example" in dmarc.advice


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "dkim=neutral (body hash did not verify) header.i=@hoge.example;",
            "changed the text after it was signed",
        ),
        (
            "dkim=fail (body hash did not verify) header.d=hoge.example;",
            "changed the text after it was signed",
        ),
        ("dkim=temperror (no key for signature) header.i=@hoge.example;", "did not find the key's record"),
        ("dkim=fail (no key for signature) header.d=hoge.example;", "did not find the key's record"),
        ("dkim=timeout (key query timeout) header.d=hoge.example;", "did not find the key's record"),
        ("dkim=fail (signature expired) header.d=hoge.example;", "had expired"),
        ("dkim=fail (signature did not verify) header.d=hoge.example;", "a filter or a mailing list"),
        ("dkim=none (message not signed) header.d=none;", "Oracle signs once the key is active"),
        (
            "dkim=pass header.d=nrt1.rp.oracleemaildelivery.com;",
            "Oracle signs for the domain once its key is active",
        ),
    ],
)
def test_why_a_signature_failed_decides_what_to_do(said: str, advice: str) -> None:
    text = f"Authentication-Results: mx.example; {said} spf=pass smtp.mailfrom=hoge.example; dmarc=pass\n"
    (dkim,) = [f for f in look(f"{text}From: a@hoge.example\n\n".encode()) if f.rule == "received.dkim"]
    assert dkim.verdict is Verdict.FAIL
    assert advice in dkim.advice


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("dmarc=fail (p=REJECT)", "SPF or DKIM has to pass"),
        ("dmarc=none action=none", "found no record"),
        ("dmarc=temperror", "could not read the record"),
        ("arc=none", "found no record"),
    ],
)
def test_why_dmarc_failed_decides_what_to_do(said: str, advice: str) -> None:
    text = f"Authentication-Results: mx.example; {said} header.from=hoge.example\nFrom: a@hoge.example\n\n"
    (dmarc,) = [f for f in look(text.encode()) if f.rule == "received.dmarc"]
    assert dmarc.verdict is Verdict.FAIL
    assert advice in dmarc.advice


def test_received_spf_counts_where_nothing_else_says_it() -> None:
    head = "Authentication-Results: mx.example; dmarc=pass\nReceived-SPF: {} (x)\nFrom: a@hoge.example\n\n"
    assert "received.spf" in rules(look(head.format("pass").encode()), Verdict.PASS)
    assert "received.spf" in rules(look(head.format("SoftFail").encode()), Verdict.FAIL)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("X-Microsoft-Antispam-Mailbox-Delivery: ucf:0;jmr:0;auth:1;dest:J;ENG:(1)", "folder for junk"),
        ("X-YahooFilteredBulk: 192.29.178.124", "among the spam"),
    ],
)
def test_what_only_the_head_tells_of_the_folder(line: str, words: str) -> None:
    assert words in seen(look(f"{line}\n{OUTLOOK}".encode()), "received.folder")
    fine = "X-Microsoft-Antispam-Mailbox-Delivery: ucf:0;dest:I;ENG:(1)\n"
    assert not rules(look((fine + OUTLOOK).encode()), Verdict.FAIL)


# --- held against authres (Apache-2.0), which nobody here wrote ------------------------------------------------------

# RFC 8601, appendix B, and what else the RFC allows.
FIELDS = [
    "example.org 1; none",
    "example.com; spf=pass smtp.mailfrom=example.net",
    "example.com; auth=pass (cram-md5) smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net",
    "example.com; dkim=pass reason=\"good signature\" header.i=@mail-router.example.net; dkim=fail reason=\"bad "
    'signature" header.i=@newyork.example.com',
    "example.net; dkim=pass reason=\"good signature\" header.i=@newyork.example.com; arc=none",
    "foo.example.net (foobar) 1 (baz); dkim/1=fail (as I like it) policy.expired=1362471462",
    "mx.google.com; dkim=pass header.i=@hoge.example header.s=s header.b=abcdefgh; spf=pass (google.com: domain of "
    "b@hoge.example designates 192.0.2.1 as permitted sender) smtp.mailfrom=b@hoge.example; dmarc=pass (p=NONE "
    "sp=NONE dis=NONE) header.from=hoge.example",
    "mx.example; dkim=fail (a (nested) comment; spf=pass) header.d=hoge.example; dmarc=fail header.from=hoge.example",
]  # fmt: skip


@pytest.mark.parametrize("value", FIELDS)
def test_authres_reads_the_same(value: str) -> None:
    theirs = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {value}")
    ours = results(value)
    assert [(r.method, r.result) for r in ours] == [(r.method, r.result) for r in theirs.results]
    domains = [
        {
            f"{p.type}.{p.name}": p.value
            for p in r.properties
            if f"{p.type}.{p.name}" in ("header.d", "header.i")
        }
        for r in theirs.results
    ]
    for one, wanted in zip(ours, domains, strict=True):
        assert {name: one.properties.get(name) for name in wanted} == wanted


def test_the_rfcs_example_with_comments_everywhere_is_read() -> None:
    # RFC 8601 B.7; authres does not read it.
    (dkim,) = results(
        "foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail policy (A dot "
        "can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it) 1362471462"
    )
    assert (dkim.method, dkim.result) == ("dkim", "fail")


@given(st.text(alphabet='aZ09=;:()"\\ .@\r\n\t>-', max_size=300), st.binary(max_size=100))
@settings(max_examples=200, deadline=None)
def test_nothing_that_is_pasted_makes_it_fail(text: str, raw: bytes) -> None:
    results(text)
    source(text.encode() + raw)
    source(raw + f"\nReceived: {text}\n".encode() + GMAIL.encode())
