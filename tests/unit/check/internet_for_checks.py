"""A small internet in which hoge.example is in order, for tests that break one thing in it.

The DNS is that of the tests of the DNS room, with CNAMEs that may lead in a circle, as they may in the world. The cloud
is that of the cloud room's tests.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import dns.message
import dns.rcode
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

sys.path.insert(0, str(Path(__file__).parents[1] / "dns"))
from internet import RESOLVER, Internet

from todoku.check import runner, topics
from todoku.check.finding import Finding, Verdict
from todoku.check.means import Dns, Means
from todoku.dns import text
from todoku.dns.lookups import Lookups
from todoku.settings import Settings, parse

DOMAIN = "hoge.example"
HOST = "mx.hoge.example"
ADDRESS = "203.0.113.10"
RELAY = "ap.rp.oracleemaildelivery.com"
SELECTOR = "sel"
TEXT = f"""
hostname = "{HOST}"
addresses = "{ADDRESS}"
postmaster = "alice@{DOMAIN}"
[[domains]]
name = "{DOMAIN}"
dmarc.reports = "postmaster@{DOMAIN}"
[relay]
region = "ap-tokyo-1"
"""

Records = dict[tuple[str, str], list[str]]


@cache
def private_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def rsa_key(bits: int) -> str:
    """p= of a key of that length."""
    return _coded(private_key(bits).public_key())


@cache
def elliptic_key() -> str:
    return _coded(ec.generate_private_key(ec.SECP256R1()).public_key())


@cache
def ed25519_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _coded(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def txt(value: str) -> str:
    """A TXT value in presentation format."""
    return text.presentation("TXT", value)


def zone() -> Records:
    """hoge.example as it should be."""
    return {
        (DOMAIN, "MX"): [f"10 {HOST}."],
        (DOMAIN, "TXT"): [txt(f"v=spf1 include:{RELAY} ~all")],
        (HOST, "A"): [ADDRESS],
        (f"{SELECTOR}._domainkey.{DOMAIN}", "TXT"): [txt(f"v=DKIM1; k=rsa; p={rsa_key(2048)}")],
        (f"_dmarc.{DOMAIN}", "TXT"): [txt(f"v=DMARC1; p=reject; rua=mailto:postmaster@{DOMAIN}")],
    }


class Circles(Internet):
    """CNAMEs that lead in a circle are a server failure for a resolver."""

    def send(
        self, query: dns.message.Message, address: str, port: int, timeout: float
    ) -> dns.message.Message:
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        type_ = query.question[0].rdtype
        if address == RESOLVER and type_ != 5 and self._circle(name):
            reply = dns.message.make_response(query)
            reply.set_rcode(dns.rcode.SERVFAIL)
            return reply
        return super().send(query, address, port, timeout)

    def _circle(self, name: str) -> bool:
        seen = set()
        while name not in seen:
            seen.add(name)
            found = [
                r[name, "CNAME"] for z in self.zones.values() for r in z.values() if (name, "CNAME") in r
            ]
            if not found:
                return False
            name = found[0][0].rstrip(".")
        return True


@dataclass
class Place:
    """The zones to break, and what the judge makes of them."""

    ours: Records = field(default_factory=zone)
    others: dict[str, Records] = field(default_factory=dict)
    second: Records | None = None  # what a second name server of ours says
    internet: Circles = field(default_factory=Circles)

    def __post_init__(self) -> None:
        self.others = {
            "oracleemaildelivery.com": {
                (RELAY, "TXT"): [txt("v=spf1 ip4:192.29.178.0/24 ~all")],
                ("eu.rp.oracleemaildelivery.com", "TXT"): [txt("v=spf1 ip4:192.29.179.0/24 ~all")],
            },
            "113.0.203.in-addr.arpa": {("10.113.0.203.in-addr.arpa", "PTR"): [f"{HOST}."]},
            "outside.example": {
                ("outside.example", "MX"): ["10 mail.outside.example."],
                ("mail.outside.example", "A"): ["198.51.100.80"],
            },
        }

    def lookups(self) -> Lookups:
        for name, records in {**self.others, DOMAIN: self.ours}.items():
            more = (self.second,) if name == DOMAIN and self.second is not None else ()
            if name not in self.internet.zones:
                self.internet.zone(name, records, *more)
        return Lookups((RESOLVER,), send=self.internet.send, timeout=0.1)

    def seen_from_outside(self) -> list[Finding]:
        """As `todoku check domain` sees it."""
        return runner.run(topics.outside(DOMAIN, Means(Dns(self.lookups())), (SELECTOR,)))

    def seen_by_us(self, names: tuple[str, ...], settings: Settings | None = None) -> list[Finding]:
        means = Means(Dns(self.lookups()))
        return runner.run(topics.steps(settings or parse(TEXT, "todoku.toml"), means, names))


def rules(findings: list[Finding], verdict: Verdict) -> set[str]:
    return set(_rules(findings, verdict))


def _rules(findings: list[Finding], verdict: Verdict) -> Iterator[str]:
    return (finding.rule for finding in findings if finding.verdict is verdict)
