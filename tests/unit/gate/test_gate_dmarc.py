# The DMARC record and the organizational domain come from a walk up the DNS tree (RFC 9989 4.10).

from __future__ import annotations

import pytest

from todoku.gate import dmarc
from todoku.gate.dmarc import Walk
from todoku.gate.resolver import Found


def walk(domain: str, records: dict[str, str], asked: list[str] | None = None) -> Walk:
    def lookup(name: str, kind: str) -> Found:
        if asked is not None:
            asked.append(name)
        text = records.get(name.removeprefix("_dmarc."))
        return Found((text.encode(),) if text else ())

    return Walk(domain, lookup)


@pytest.mark.parametrize(
    ("domain", "records", "organization"),
    [
        ("a.mail.example.com", {"example.com": "v=DMARC1; p=none"}, "example.com"),
        ("a.mail.example.com", {}, "a.mail.example.com"),
        # the record with the fewest labels, whatever lies between
        ("a.b.example.com", {"b.example.com": "v=DMARC1; p=none", "example.com": "v=DMARC1; p=reject"}, "example.com"),
        # psd=n: that one, and no further
        ("a.b.example.com", {"b.example.com": "v=DMARC1; p=none; psd=n", "example.com": "v=DMARC1"}, "b.example.com"),
        # psd=y: one label below
        ("a.mail.giant.bank", {"bank": "v=DMARC1; p=reject; psd=y"}, "giant.bank"),
        ("bank", {"bank": "v=DMARC1; p=reject; psd=y"}, "bank"),
    ],
)  # fmt: skip
def test_the_organizational_domain(domain: str, records: dict[str, str], organization: str) -> None:
    assert walk(domain, records).organization == organization


def test_a_long_name_costs_eight_questions() -> None:
    asked: list[str] = []
    assert walk("a.b.c.d.e.f.g.h.i.j.mail.example.com", {}, asked).records == ()
    assert asked[0] == "_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com"
    assert asked[1] == "_dmarc.g.h.i.j.mail.example.com"
    assert asked[-1] == "_dmarc.com"
    assert len(asked) == 8


@pytest.mark.parametrize(
    ("record", "at", "exists", "policy"),
    [
        ("p=reject", "example.com", True, "reject"),
        ("p=none; sp=reject", "example.com", True, "none"),
        ("p=none; sp=reject", "a.example.com", True, "reject"),
        ("p=none; sp=quarantine; np=reject", "a.example.com", False, "reject"),
        ("p=reject; np=none", "a.example.com", True, "reject"),
        ("p=reject; t=y", "example.com", True, "quarantine"),
        ("p=REJECT", "example.com", True, "reject"),
        ("p=rejekt; rua=mailto:a@b", "example.com", True, "none"),
        ("rua=mailto:a@b", "example.com", True, "none"),
        ("p=reject; sp=nonsense", "a.example.com", True, "reject"),
    ],
)
def test_the_policy_that_is_asked_for(record: str, at: str, exists: bool, policy: str) -> None:
    found = walk(at, {"example.com": f"v=DMARC1; {record}"}).policy
    assert found is not None
    assert found.policy_for(at, exists=exists) == policy


@pytest.mark.parametrize(
    "texts",
    [
        (b"v=DMARC1; p=reject", b"v=DMARC1; p=none"),
        (b"p=reject; v=DMARC1",),
        (b"v=dmarc1; p=reject",),
        (b"v=DMARC10; p=reject",),
        (b"v=DMARC1; p=rejekt",),
        (b"v=spf1 -all",),
        (b"\xff\x00;;=;",),
        (b"",),
    ],
)
def test_what_is_no_record_is_none(texts: tuple[bytes, ...]) -> None:
    assert dmarc.parse("example.com", texts) is None


def test_the_public_suffixs_record_applies_where_there_is_no_other() -> None:
    found = walk("a.giant.bank", {"bank": "v=DMARC1; p=reject; psd=y; np=none"}).policy
    assert found is not None
    assert found.policy_for("a.giant.bank", exists=True) == "reject"
