# A dead resolver makes two dozen lines, and the one that says so is among them. Who reads it at three in the morning
# needs that one, and not the others; but nothing that is wrong by itself may go under in it.

from __future__ import annotations

import json

import pytest

from todoku.check import show
from todoku.check.causes import consequences
from todoku.check.finding import Finding, by_urgency, failed, passed, unknown, warned

DOMAIN = "hoge.example"
LOOK = "Look again"


def not_known(rule: str, about: str = DOMAIN) -> Finding:
    return unknown(rule, "no answer", LOOK, about)


def text(*findings: Finding, brief: bool = False) -> str:
    return "\n".join(show.lines(by_urgency(findings), [], brief=brief))


@pytest.mark.parametrize(
    ("cause", "followers"),
    [
        (
            failed("host.resolver", "it is dead", "Correct it"),
            [
                not_known("spf.record"),
                not_known("host.clock", ""),
                not_known("submission.smuggling", "LF.LF"),
                failed("relay.login", "no host", LOOK, "r"),
            ],
        ),
        (
            failed("host.services", "postfix does not run", "Start it", "postfix"),
            [
                failed("tls.offered", "closed", LOOK, "port 587"),
                not_known("submission.relay", "port 25"),
                not_known("inbound.accepted"),
                not_known("host.queue", ""),
            ],
        ),
        (
            failed("host.services", "todoku-gate does not run", "Start it", "todoku-gate"),
            [failed("inbound.accepted", "451", LOOK, DOMAIN), not_known("submission.smuggling", "LF.LF")],
        ),
        (failed("host.services", "dovecot", LOOK, "dovecot"), [failed("tls.offered", "closed", LOOK, "port 993")]),
        (failed("tls.offered", "closed", LOOK, "port 25"), [not_known("submission.smuggling", "LF.LF")]),
        (failed("dns.exists", "no such", LOOK, DOMAIN), [failed("mx.record", "none", LOOK, DOMAIN)]),
        (failed("dns.delegation", "dead", LOOK, DOMAIN), [not_known("dmarc.record")]),
        (failed("dkim.target", "other", LOOK, DOMAIN), [failed("dkim.record", "none", LOOK, DOMAIN)]),
        (failed("relay.sender", "535", LOOK, "alice"), [not_known("relay.sender", "bob")]),
    ],
    ids=lambda each: f"{each.rule} {each.about}" if isinstance(each, Finding) else "",
)  # fmt: skip
def test_what_follows_is_told_below_its_cause(cause: Finding, followers: list[Finding]) -> None:
    assert consequences(by_urgency([cause, *followers])) == dict.fromkeys(followers, cause)
    told = text(cause, *followers)
    assert told.count("FAIL") + told.count("UNKNOWN") == 1
    assert "Because of this also: " in told
    assert all(each.rule in told for each in followers)


@pytest.mark.parametrize(
    ("cause", "other"),
    [
        ("host.services:postfix", failed("submission.relay", "an open relay", "Stop it", "port 25")),
        ("host.services:postfix", failed("tls.offered", "closed", LOOK, "port 993")),
        ("host.services:postfix", failed("tls.expiry", "ended", LOOK, "port 25")),
        ("host.services:todoku-agent", failed("inbound.accepted", "550", LOOK, DOMAIN)),
        ("host.services:dovecot", failed("tls.offered", "closed", LOOK, "port 25")),
        ("host.resolver:", failed("spf.record", "two", LOOK, DOMAIN)),
        ("host.resolver:", not_known("submission.auth", "port 25")),
        ("dns.exists:hoge.example", failed("mx.record", "none", LOOK, "fuga.example")),
        ("dkim.target:hoge.example", failed("dkim.length", "512 bits", LOOK, DOMAIN)),
        ("tls.offered:port 465", not_known("submission.smuggling", "LF.LF")),
        ("dns.delegation:hoge.example", warned("spf.all", "?all", LOOK, DOMAIN)),
    ],
)
def test_what_is_wrong_by_itself_stands_by_itself(cause: str, other: Finding) -> None:
    rule, _, about = cause.partition(":")
    assert consequences(by_urgency([failed(rule, "broken", LOOK, about), other])) == {}


def test_the_root_counts_and_not_what_lies_between() -> None:
    gate = failed("host.services", "does not run", "Start it", "todoku-gate")
    port = failed("tls.offered", "454", LOOK, "port 25")
    hidden = not_known("submission.auth", "port 25")
    assert consequences([gate, port, hidden]) == {port: gate, hidden: gate}


def test_more_than_anybody_reads_is_named_by_its_subjects() -> None:
    cause = failed("host.resolver", "dead", LOOK)
    rules = (
        "spf.record",
        "mx.record",
        "dkim.record",
        "dmarc.record",
        "dmarc.alignment",
        "dns.exists",
        "cloud.domain",
    )
    told = text(cause, *map(not_known, rules))
    assert "Because of this also: 7 more (dns, mx, spf, dkim, dmarc, cloud)" in told


def test_programs_are_told_the_cause_as_well() -> None:
    cause, follower = failed("host.resolver", "dead", LOOK), not_known("spf.record")
    told = json.loads(json.dumps(show.as_json([cause, follower], [], 1.0)))
    assert [each["because"] for each in told["findings"]] == [None, {"rule": "host.resolver", "about": ""}]
    assert told["counts"]["unknown"] == 1


def test_what_is_said_of_several_things_is_said_once() -> None:
    ports = [
        warned("tls.certificate", "self-signed", "Get one", "port 465"),
        warned("tls.certificate", "self-signed", "Get one", "port 587"),
        failed("tls.offered", "nobody listens at port 465", "Start it", "port 465"),
        failed("tls.offered", "nobody listens at port 993", "Start it", "port 993"),
        not_known("cloud.senders", ""),
        not_known("cloud.domain"),
        unknown("cloud.quota", "the API key is refused", "Is ap-tokyo-1 right?", "ap-tokyo-1"),
        unknown("cloud.policies", "the API key is refused", "Is ap-tokyo-1 right?", "group"),
    ]
    told = text(*ports)
    assert "WARN    tls.certificate (ports 465, 587): self-signed\n" in told
    assert "FAIL    tls.offered (ports 465, 993): nobody listens at ports 465, 993\n" in told
    assert "UNKNOWN cloud.domain (hoge.example), cloud.senders: no answer\n" in told
    assert "cloud.policies (group), cloud.quota (ap-tokyo-1): the API key is refused\n" in told
    assert told.count("-> Is ap-tokyo-1 right?") == 1


def test_different_things_are_not_mixed_up() -> None:
    domains = [
        failed("dmarc.record", "none", f"Publish one at _dmarc.{name}", name)
        for name in (DOMAIN, "fuga.example")
    ]
    assert text(*domains).count("FAIL    dmarc.record") == 2
    told = text(failed("mx.host", "a has none", LOOK, "a"), failed("mx.host", "b has none", LOOK, "a"))
    assert told.count("FAIL") == 2
    told = text(warned("spf.all", "?all", LOOK, DOMAIN), failed("spf.all", "?all", LOOK, DOMAIN))
    assert told.count("spf.all") == 2


def test_what_is_in_order_is_named_in_short() -> None:
    fine = [
        passed("spf.record", "v=spf1", DOMAIN),
        passed("spf.all", "~all", DOMAIN),
        passed("host.queue", "empty"),
    ]
    assert text(*fine, brief=True).splitlines()[:2] == [
        "PASS    host: queue",
        "PASS    spf (hoge.example): record, all",
    ]
    assert "PASS    spf.record (hoge.example): v=spf1" in text(*fine)
