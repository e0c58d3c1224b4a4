# Held against something that nobody here wrote: the tests of OpenDMARC 1.4.2 (libopendmarc/tests; BSD licence), which
# much of the world's mail has gone through. It reads RFC 7489; where RFC 9989 has it otherwise, that is said.

from __future__ import annotations

import time

import pytest
from broken_messages import NOW
from internet_for_checks import DOMAIN, Place, rules

from todoku.check.finding import Finding, Verdict
from todoku.check.message import look
from todoku.dns import text
from todoku.gate.authentication import Content, Envelope, author_domains, evaluate
from todoku.gate.resolver import Found

# --- test_dmarc_parse.c: records, and whether they can be used ------------------------------------------------------

USABLE = [
    "v=DMARC1; p=none; rf=afrf; rua=mailto:dmarc-a@abuse.net; ruf=mailto:dmarc-f@abuse.net",
    "v=DMARC1; p=none;",
    "v=DMARC1; p=reject;",
    "v=DMARC1; p=quarantine;",
    "v=DMARC1; p=n;",
    "v=DMARC1; p=none; rua=ftp://abuse.com",
    "v=DMARC1; p=none; ruf=mailto://abuse.com",
    "v=DMARC1; p=none; ruf=mailto://abuse.com; foo=bar; buzz=happy;",
]
UNUSABLE = [
    "",
    "V=BOB",
    "v=DMARC1; p=bob;",
    "v=DMARC1; p=none; sp=bob;",
    "v=DMARC1; p=none; adkim=bob;",
    "v=DMARC1; p=none; aspf=bob;",
    "v=DMARC1; p=none; rf=bob;",
    "v=DMARC1; p=none; ri=bob;",
    "v=DMARC1; p=none; pct=500;",
    "v=DMARC1; pct=100;",
    "v=DMARC1; p=none; rf=000000000000000000000000000000000",
]
DIFFERENT = {
    "v=DMARC1; p=n;": "OpenDMARC takes the first letter for the word; no RFC does",
    **dict.fromkeys(
        ["v=DMARC1; p=none; sp=bob;", "v=DMARC1; p=none; adkim=bob;", "v=DMARC1; p=none; aspf=bob;"],
        "RFC 9989 4.7: what is no value counts as the default, so this is a warning",
    ),
    **dict.fromkeys(
        [
            "v=DMARC1; p=none; rf=bob;",
            "v=DMARC1; p=none; ri=bob;",
            "v=DMARC1; p=none; pct=500;",
            "v=DMARC1; p=none; rf=000000000000000000000000000000000",
        ],
        "RFC 9989: rf, ri and pct mean nothing any more, whatever they say: a warning",
    ),
}


def judged(record: str) -> list[Finding]:
    place = Place()
    place.ours[f"_dmarc.{DOMAIN}", "TXT"] = [text.presentation("TXT", record)]
    return [f for f in place.seen_from_outside() if f.rule in ("dmarc.record", "dmarc.syntax")]


@pytest.mark.parametrize("record", [*USABLE, *UNUSABLE])
def test_records_are_usable_where_opendmarc_uses_them(record: str) -> None:
    found = judged(record)
    ours = not rules(found, Verdict.FAIL)
    assert (ours is (record in USABLE)) is (record not in DIFFERENT), found
    if record in DIFFERENT and record in UNUSABLE:
        assert rules(found, Verdict.WARN) == {"dmarc.syntax"}  # and not in silence


# --- test_alignment.c: which domains belong together ----------------------------------------------------------------

# Who sent, whose name is in From, strict or relaxed, whether they are aligned. Left out are three with dots in wrong
# places (".mac.com."): such names get no further than the syntax of addresses.
PAIRS = [
    ("a.b.c.bcx.com", "bcx.com", "r", True),
    ("a.b.c.edu.ar", "edr.au", "s", False),
    ("oooo.com", "ooo.com", "s", False),
    ("a.foo.com", "b.foo.com", "r", True),
    ("a.b.com", "b.com", "r", True),
    ("b.com", "a.b.com", "r", True),
    ("a.b.de", "a.b.de", "s", True),
]


@pytest.mark.parametrize(("sender", "author", "mode", "aligned"), PAIRS)
def test_domains_are_aligned_where_opendmarc_has_them_so(
    sender: str, author: str, mode: str, aligned: bool
) -> None:
    # OpenDMARC looks into a list of public suffixes; RFC 9989 4.10 asks the DNS, where the organization has its record.
    organization = ".".join(author.split(".")[-2:])
    zone = {
        sender: "v=spf1 ip4:192.0.2.1 -all",
        f"_dmarc.{organization}": f"v=DMARC1; p=reject; aspf={mode}",
    }

    def lookup(name: str, kind: str) -> Found:
        return Found((text.encoded(zone[name]),) if kind == "TXT" and name in zone else ())

    envelope = Envelope("192.0.2.1", f"mail.{sender}", f"somebody@{sender}")
    content = Content(f"From: a@{author}\r\n".encode(), lambda: b"", 0)
    (found,) = evaluate(envelope, (author,), content, lookup, time.monotonic() + 10).authors
    assert (found.result == "pass") is aligned


# --- test_finddomain.c: whose mail it is, by From -------------------------------------------------------------------

FROMS = {
    "Joe Johnson <joe@joe.com>": "joe.com",
    '"Joe Johnson" <joe@joe.com>': "joe.com",
    "(Joe Johnson) joe@joe.com": "joe.com",
    "joe@joe.com": "joe.com",
    '"Mandel, Bob" <joe@joe.com>': "joe.com",
    "(,) joe@joe.com": "joe.com",
    "Davide D'Marco <user@blah.com>": "blah.com",
}
# OpenDMARC takes joe.com out of these; others take something else, or everything. The judge says that From is broken.
BROKEN_FROMS = [
    '"Johnson, Joe <joe@joe.com>" joe@joe.com',
    "<<<><joe@joe.com>>>",
    "Joe Johnson <joe@joe.com>, ace@ace.com",
    "joe@joe.com, ace@ace.com",
    "Mail From:<joe@joe.com>",
    '"( bob@bob.com)" joe@joe.com',
]


def message(value: str) -> bytes:
    return f"From: {value}\r\nTo: c@mailbox.example\r\nSubject: x\r\n\r\ntext\r\n".encode()


@pytest.mark.parametrize("value", FROMS)
def test_the_author_is_who_opendmarc_finds(value: str) -> None:
    assert author_domains([value]) == (FROMS[value],)


@pytest.mark.parametrize("value", BROKEN_FROMS)
def test_a_from_that_programs_read_differently_is_a_failure(value: str) -> None:
    assert "message.from" in rules(look(message(value), NOW), Verdict.FAIL)
    assert "joe.com" in author_domains([value])  # and whoever else somebody may take it for
