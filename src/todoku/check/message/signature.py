"""What the message carries of its own authentication: DKIM signatures (row 18) and a receiver's verdict.

Without a network no signature can be verified; its length tells the key's, though (RFC 8017 8.2: an RSA signature is as
long as the modulus).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.message.parsing import Message

_RESULT = re.compile(r"\b(spf|dkim|dmarc)\s{0,3}=\s{0,3}([a-z]{2,10})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM-Signature field as its tags."""

    domain: str
    selector: str
    algorithm: str
    headers: frozenset[str]  # lower case
    bits: int  # of an RSA key, by the signature's length; 0 where it cannot be told


def signatures(message: Message) -> list[Signature]:
    return [_signature(value) for value in message.all("DKIM-Signature")[:20]]


def covers(message: Message, names: tuple[str, ...]) -> bool:
    """Whether some signature covers all of these headers."""
    return any(set(names) <= signature.headers for signature in signatures(message))


def verdicts(message: Message) -> dict[str, str]:
    """What the last receiver found out: mechanism to result, by the topmost Authentication-Results (RFC 8601)."""
    found: dict[str, str] = {}
    for value in message.all("Authentication-Results")[:1]:
        for mechanism, result in _RESULT.findall(value):
            name, said = mechanism.lower(), result.lower()
            # Of several signatures one that passes is enough.
            if found.get(name) != "pass":
                found[name] = said
    return found


def look(message: Message, now: datetime) -> Iterator[Finding]:  # noqa: ARG001 - all parts are called alike
    for signature in signatures(message):
        yield from _length(signature)
    found = verdicts(message)
    if not found:
        return
    said = ", ".join(f"{name}={result}" for name, result in found.items())
    wrong = [name for name, result in found.items() if result in ("fail", "softfail", "permerror", "none")]
    if wrong:
        topics = ", ".join(f"`todoku check {name}`" for name in wrong)
        yield failed("message.authentication", f"the receiver says {said}", f"Look at {topics}")
    else:
        yield passed("message.authentication", f"the receiver says {said}")


def _length(signature: Signature) -> Iterator[Finding]:
    about = f"{signature.selector}._domainkey.{signature.domain}"
    if signature.algorithm == "rsa-sha1":
        yield failed(
            "dkim.length",
            "it is signed with rsa-sha1, on which nobody may rely any more (RFC 8301)",
            "Sign with rsa-sha256",
            about,
        )
    elif signature.bits and signature.bits < 1024:
        yield failed("dkim.length", f"the key has {signature.bits} bits", "Make one of 2048 bits", about)
    elif signature.bits and signature.bits < 2048:
        yield warned("dkim.length", f"the key has {signature.bits} bits", "Make one of 2048 bits", about)
    elif signature.bits:
        yield passed("dkim.length", f"the key has {signature.bits} bits", about)


def _signature(value: str) -> Signature:
    tags: dict[str, str] = {}
    for part in value.split(";")[:50]:
        name, equals, content = part.partition("=")
        if equals:
            tags.setdefault(name.strip(), "".join(content.split()))
    algorithm = tags.get("a", "").lower()
    try:
        length = len(base64.b64decode(tags.get("b", ""), validate=True)) * 8
    except (binascii.Error, ValueError):
        length = 0
    return Signature(
        tags.get("d", "").lower(),
        tags.get("s", ""),
        algorithm,
        frozenset(name.strip().lower() for name in tags.get("h", "").split(":")),
        length if algorithm.startswith("rsa-") else 0,
    )
