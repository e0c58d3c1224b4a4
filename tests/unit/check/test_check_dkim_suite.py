# Held against something that nobody here wrote: the key records and messages of dkimpy's own tests, the messages and
# zones of authheaders' tests, and the records of the dmarc package's. What differs is listed, each with its reason.

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import broken_messages
import dkim as dkim_peer
import pytest
from dkim.util import InvalidTagValueList, parse_tag_value
from internet_for_checks import DOMAIN, Place, rules

from todoku.check import dkim
from todoku.check import message as judge
from todoku.check.finding import Verdict
from todoku.dns import text
from todoku.gate.authentication import Content, Envelope, author_domains, evaluate
from todoku.gate.resolver import Found

DATA = Path(__file__).parents[2] / "data"
NOW = datetime(2026, 11, 24, tzinfo=UTC)

# --- dkimpy: dkim/tests/test_dkim.py, test_dkim_rsavariants.py, test_dkim_ed25519.py, test_crypto.py ---------------

KEYS = {
    "test.txt": ("rsa", 1024),
    "test2.txt": ("rsa", 1024),
    "1024_testkey_wo_markers.pub.txt": ("rsa", 1024),
    "1024_testkey_wo_markers.pub.rsa.txt": ("rsa", 1024),
    "2048_testkey_wo_markers.pub.txt": ("rsa", 2048),
    "2048_testkey_wo_markers.pub.rsa.txt": ("rsa", 2048),
    "2048_testkey_PKCS8.key.pub.txt": ("rsa", 2048),
    "eximtest.dns": ("ed25519", 256),
    "ed25519test.dns": ("ed25519", 256),
}
NO_KEYS = {
    "badversion.txt": "v=",
    "badk.txt": "kind of key",
    "test_bad.txt": "a part is missing",  # cut within the key: its length does not fit any more
    "test_tlsrpt.txt": "not for mail",
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_dkimpy_verifies_with_are_read(name: str) -> None:
    key = dkim.read((DATA / "dkim" / name).read_text().strip())
    assert (key.type, key.bits) == KEYS[name]


@pytest.mark.parametrize("name", NO_KEYS)
def test_keys_that_dkimpy_refuses_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(dkim.Unusable) as refused:
        dkim.read((DATA / "dkim" / name).read_text().strip())
    assert NO_KEYS[name] in str(refused.value)


@pytest.mark.parametrize("name", ["rfc6376.signed.msg", "rfc6376.signed.rsa.msg", "rfc6376.signed.no_t.msg"])
def test_the_signatures_of_the_rfcs_own_example_are_in_form(name: str) -> None:
    raw = (DATA / "dkim" / name).read_bytes()
    found = judge.look(raw, NOW)
    assert "message.signature" in rules(found, Verdict.PASS)
    assert "message.signature" not in rules(found, Verdict.FAIL) | rules(found, Verdict.WARN)


# --- authheaders: authheaders/test/test_authentication.py ----------------------------------------------------------

ZONE = {
    "test._domainkey.example.com": (DATA / "dkim/test.txt").read_text().strip(),
    "_dmarc.example.com": "v=DMARC1; p=reject; rua=mailto:dmarc.reports@valimail.com",
    "_dmarc.example.org": "v=DMARC1; p=none",
    "_dmarc.example.net": "v=DMARC1; p=none; sp=reject",
    "_dmarc.example.biz": "v=DMARC1; p=none; sp=quarantine; np=reject",
    "_dmarc.nop.example.org": "v=DMARC1; sp=quarantine; np=reject",
    "_dmarc.bad.example.com": "v=DMARC1; p=none; reject",
    "_dmarc.gov": "v=DMARC1; p=reject; sp=none; np=reject; rua=mailto:dotgov_dmarc@cisa.dhs.gov; psd=y",
}
MISSING = ("sub.example.biz", "example.gov")
VERDICTS = {
    "test.message_signed": ("pass", "reject"),
    "testcomma.message": ("pass", "reject"),
    "test.message_sub": ("fail", "reject"),
    "test.message_np1": ("fail", "reject"),
    "test.message_np2": ("fail", "quarantine"),
    "test.gov.message": ("fail", "reject"),
    "test_nop.message": ("none", ""),
    "test.bad.message": ("permerror", "none"),
}
DIFFERENT = {
    # A record without p= and rua= is as if it were not there (RFC 9989 4.7): the one above applies. authheaders stops.
    "test_nop.message": ("fail", "none"),
    # The gate passes over the part that cannot be read, as the RFC has it. The judge calls it a failure: others refuse.
    "test.bad.message": ("fail", "none"),
}


def lookup(name: str, kind: str) -> Found:
    if kind != "TXT":
        return Found((), name not in MISSING)
    return Found((text.encoded(ZONE[name]),) if name in ZONE else ())


def content(name: str) -> tuple[tuple[str, ...], Content]:
    raw = (DATA / "dmarc" / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    header, _, body = raw.partition(b"\r\n\r\n")
    froms = [line[5:].decode() for line in header.split(b"\r\n") if line.startswith(b"From:")]
    return author_domains(froms), Content(header + b"\r\n", lambda: body, len(body))


@pytest.mark.parametrize("name", VERDICTS)
def test_dmarc_is_read_as_authheaders_reads_it(name: str) -> None:
    domains, message = content(name)
    envelope = Envelope("192.0.2.1", "mail.example", "somebody@elsewhere.example")
    (author,) = evaluate(envelope, domains, message, lookup, time.monotonic() + 10).authors
    assert (author.result, author.policy) == DIFFERENT.get(name, VERDICTS[name])


def test_a_from_that_has_no_domain_has_no_author() -> None:
    assert content("test.nofrom.message")[0] == ()


# --- the dmarc package: dmarc/tests/test_dmarc.py (MIT) ------------------------------------------------------------

BAD_RECORDS = [
    "",
    "v=DMARC1 p=none",
    "p=none",
    "v=DMARC1; p:none",
    "v=DAMRC1; p=none",
    "v=dmarc1; p=none;",
    "p=none; v=DMARC1",
    "v=DMARC1; sp=none",
    "v=DMARC1; p=pass",
]
# Its "strict" reading refuses these; RFC 9989 4.7: a value that is none counts as the default, so they are warnings.
ODD_RECORDS = [
    "v=DMARC1; p=reject; sp=pass; rua=mailto:a@hoge.example",
    "v=DMARC1; p=reject; adkim=none; rua=mailto:a@hoge.example",
    "v=DMARC1; p=reject; aspf=none; rua=mailto:a@hoge.example",
]
GOOD_RECORD = (
    "v=DMARC1; p=reject; sp=quarantine; adkim=s; RUA = MAILTO:Dmarc@hoge.example ; "
    "ruf=mailto:forensic@hoge.example; fo=0:1:d:s; unknown=test"
)


def verdicts(record: str) -> tuple[set[str], set[str]]:
    place = Place()
    place.ours[f"_dmarc.{DOMAIN}", "TXT"] = [text.presentation("TXT", record)]
    found = [finding for finding in place.seen_from_outside() if finding.rule.startswith("dmarc.")]
    return rules(found, Verdict.FAIL), rules(found, Verdict.WARN)


@pytest.mark.parametrize("record", BAD_RECORDS)
def test_records_that_the_dmarc_package_refuses_fail(record: str) -> None:
    failed, _ = verdicts(record)
    assert failed and failed <= {"dmarc.record", "dmarc.syntax"}


@pytest.mark.parametrize("record", ODD_RECORDS)
def test_records_with_a_value_that_is_none_are_warned_of(record: str) -> None:
    assert verdicts(record) == (set(), {"dmarc.syntax"})


def test_a_record_that_the_dmarc_package_takes_passes() -> None:
    assert verdicts(GOOD_RECORD) == (set(), set())


# --- dkimpy as a peer: the form of signatures in the matrix of messages ----------------------------------------------

SIGNED = {
    name: raw for name, (raw, _, _) in broken_messages.MUTATIONS.items() if raw.startswith(b"DKIM-Signature:")
}
SAID_DIFFERENTLY = {
    "a signature that does not cover From": "it looks at that later, when it verifies",
    "a signature with another canonicalisation": "the same",
    "a signature of a header without a name": "it takes the empty name for a header that is not there",
    "a signature that is no base64": "it looks at b= where it means bh= (1.1.8)",
    "a signature of more than there is": "it looks at the body later",
    "a signature without a value for d": "it wants the tag, and no value in it",
}


@pytest.mark.parametrize("name", SIGNED)
def test_dkimpy_refuses_the_same_signatures_by_their_form(name: str) -> None:
    value = SIGNED[name].partition(b"\r\n")[0].removeprefix(b"DKIM-Signature: ")
    try:
        dkim_peer.validate_signature_fields(parse_tag_value(value))
        theirs = True
    except (dkim_peer.ValidationError, InvalidTagValueList):
        theirs = False
    ours = "message.signature" not in broken_messages.MUTATIONS[name][1]
    assert (ours is theirs) is (not SAID_DIFFERENTLY.get(name)), (ours, theirs)
