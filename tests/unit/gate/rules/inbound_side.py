"""Mail from outside, its DNS and its signatures, for the tests of the inbound rules."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from todoku.gate import changes
from todoku.gate.context import Context
from todoku.gate.decision import Change, Decision
from todoku.gate.message import Client, MessageSoFar
from todoku.gate.resolver import DnsTrouble, Found
from todoku.settings import Settings
from todoku.settings.reading import parse

SETTINGS = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
MAIL = (
    ("Received", " from elsewhere"),
    ("From", ' "Dave" <dave@outside.example>'),
    ("To", " alice@hoge.example"),
    ("Subject", " hello"),
    ("Date", " Tue, 24 Nov 2026 05:00:00 +0000"),
    ("Message-ID", " <1@outside.example>"),
)


def settings(more: str = "") -> Settings:
    return parse(SETTINGS + more, "todoku.toml")


def mail(
    *headers: tuple[str, str],
    sender: str = "dave@outside.example",
    to: tuple[str, ...] = ("alice@hoge.example",),
    body: bytes = b"text\r\n",
    client: Client | None = None,
    context: Context | None = None,
    macros: Mapping[str, str] | None = None,
) -> MessageSoFar:
    made = MessageSoFar(
        client or Client("mail.outside.example", "198.51.100.80", 4711, "mail.outside.example"),
        context or Context(settings()),
        macros or {"i": "QUEUE1"},
    )
    made.began(f"<{sender}>", ())
    for address in to:
        made.recipient_came(f"<{address}>")
    for name, value in headers or MAIL:
        made.headers.arrived(name, value)
    made.body.append(body)
    return made


def ask(rule: Any, message: MessageSoFar) -> Decision:
    """The rule's decision; a change is applied."""

    async def asked() -> Decision:
        answer = rule(message)
        decision: Decision = await answer if inspect.isawaitable(answer) else answer
        return decision

    decision = asyncio.run(asked())
    if isinstance(decision, Change):
        for modification in decision.modifications:
            changes.apply(modification, message)
    return decision


@dataclass
class Dns:
    """`records`: (name, type) -> values; what is not there does not exist, what is None gives no answer."""

    records: dict[tuple[str, str], tuple[bytes, ...] | None] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def txt(self, name: str, *values: str) -> Dns:
        self.records[name, "TXT"] = tuple(value.encode() for value in values)
        return self

    def silent(self, name: str, kind: str = "TXT") -> Dns:
        self.records[name, kind] = None
        return self

    def __call__(self, name: str, kind: str) -> Found:
        self.asked.append((name, kind))
        values = self.records.get((name, kind), ())
        if values is None:
            raise DnsTrouble(f"{kind} of {name}")
        return Found(values, exists=any(known == name for known, _ in self.records))

    def ask(self, _servers: tuple[str, ...], name: str, kind: str, _seconds: float) -> Found:
        return self(name, kind)


def outside(policy: str = "reject") -> Dns:
    """The DNS of outside.example: SPF for 198.51.100.80 only, a DKIM key, a DMARC record."""
    made = Dns()
    made.txt("outside.example", "v=spf1 ip4:198.51.100.80 -all")
    made.txt("_dmarc.outside.example", f"v=DMARC1; p={policy}")
    made.txt("sel._domainkey.outside.example", public_key())
    made.records["outside.example", "A"] = (b"198.51.100.80",)
    return made


@functools.cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_key() -> str:
    import base64

    der = (
        _key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"


def signature(
    headers: tuple[tuple[str, str], ...], body: bytes = b"text\r\n", domain: str = "outside.example"
) -> tuple[str, str]:
    """A DKIM-Signature header, as dkimpy makes it."""
    message = "".join(f"{name}:{value}\r\n" for name, value in headers).encode() + b"\r\n" + body
    pem = _key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    made: bytes = dkim.sign(message, b"sel", domain.encode(), pem, include_headers=[b"From", b"Subject"])
    name, _, value = made.decode().rstrip("\r\n").partition(":")
    return name, value
