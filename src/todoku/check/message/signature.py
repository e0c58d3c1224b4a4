"""What the message carries of its own authentication: DKIM signatures (row 18) and a receiver's verdict.

Without a network no signature can be verified; its length tells the key's, though (RFC 8017 8.2: an RSA signature is as
long as the modulus).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from todoku.check.authentication_results import results
from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.message.parsing import Message

_REQUIRED = ("v", "a", "b", "bh", "d", "h", "s")  # RFC 6376 3.5
_ALGORITHMS = ("rsa-sha256", "rsa-sha1", "ed25519-sha256")  # rsa-sha1 has a finding of its own
_DRIFT = 300  # seconds that clocks may differ
_MECHANISMS = ("spf", "dkim", "dmarc")


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM-Signature field as its tags."""

    domain: str
    selector: str
    algorithm: str
    headers: frozenset[str]  # lower case
    bits: int  # of an RSA key, by the signature's length; 0 where it cannot be told


def signatures(message: Message) -> list[Signature]:
    return [_signature(_tags(value)) for value in message.all("DKIM-Signature")[:20]]


def covers(message: Message, names: tuple[str, ...]) -> bool:
    """Whether some signature covers all of these headers."""
    return any(set(names) <= signature.headers for signature in signatures(message))


def verdicts(message: Message) -> dict[str, str]:
    """What the last receiver found out: mechanism to result, by the topmost Authentication-Results (RFC 8601)."""
    found: dict[str, str] = {}
    for value in message.all("Authentication-Results")[:1]:
        for each in results(value):
            # Of several signatures one that passes is enough.
            if each.method in _MECHANISMS and found.get(each.method) != "pass":
                found[each.method] = each.result
    return found


def look(message: Message, now: datetime) -> Iterator[Finding]:
    # One that has arrived was verified then, however long ago that was.
    moment = None if message.all("Received") else now.timestamp()
    for value in message.all("DKIM-Signature")[:20]:
        tags = _tags(value)
        faults = [*_list_faults(value), *_faults(tags, moment), *_value_faults(tags, len(message.body))]
        yield _form(tags, faults)
        yield from _length(_signature(tags))
    found = verdicts(message)
    if not found:
        return
    said = ", ".join(f"{name}={result}" for name, result in found.items())
    wrong = [name for name, result in found.items() if result not in ("pass", "bestguesspass")]
    if wrong:
        topics = ", ".join(f"`todoku check {name}`" for name in wrong)
        yield failed("message.authentication", f"the receiver says {said}", f"Look at {topics}")
    else:
        yield passed("message.authentication", f"the receiver says {said}")


def _form(tags: dict[str, str], faults: Sequence[str]) -> Finding:
    about = _about(tags.get("s", ""), tags.get("d", "").lower())
    if faults:
        advice = "Correct the signer, or leave signing to Oracle"
        return failed("message.signature", "; ".join(faults), advice, about)
    if "l" in tags:
        seen = "the signature covers a beginning of the body only (l=), so that anybody can add to it"
        return warned("message.signature", seen, "Sign without l=", about)
    return passed("message.signature", "the signature has what it needs", about)


def _about(selector: str, domain: str) -> str:
    return f"{selector}._domainkey.{domain}"


def _faults(tags: dict[str, str], moment: float | None) -> Iterator[str]:
    """RFC 6376 6.1.1: what makes verifiers give up before they look at the key."""
    if missing := [name for name in _REQUIRED if not tags.get(name)]:
        yield f"the signature has no {', '.join(f'{name}=' for name in missing)}"
    if tags.get("v", "1") != "1":
        yield f"v={tags['v'][:20]} is no version that there is"
    domain, identity = tags.get("d", "").lower(), tags.get("i", "").rpartition("@")[2].lower()
    if identity and identity != domain and not identity.endswith(f".{domain}"):
        yield f"i={tags['i'][:80]} is not within d={domain[:80]}"
    if "from" not in tags.get("h", "").lower().split(":") and tags.get("h"):
        yield "the signature does not cover From"
    begins, ends = (_seconds(tags.get(name, "")) for name in ("t", "x"))
    if ends is not None and moment and ends < moment:
        yield "the signature has expired (x=)"
    if begins is not None and moment and begins > moment + _DRIFT:
        yield "the signature is from the future (t=)"
    if begins is not None and ends is not None and ends < begins:
        yield "the signature ends before it begins (x= and t=)"


def _list_faults(value: str) -> Iterator[str]:
    """RFC 6376 3.2: TAG=VALUE between semicolons, each tag once, and nothing else."""
    parts = [part.strip() for part in value.split(";")]
    names = [part.partition("=")[0].strip() for part in parts if "=" in part]
    if junk := next(
        (part for part in parts[:-1] if "=" not in part), parts[-1] if "=" not in parts[-1] else ""
    ):
        yield f'"{junk[:40]}" in it is no TAG=VALUE'
    elif "" in parts[:-1]:
        yield "there is nothing between two semicolons of it"
    if twice := next((name for name in names if names.count(name) > 1), ""):
        yield f"it has the tag {twice[:10]} twice"


def _value_faults(tags: dict[str, str], body: int) -> Iterator[str]:
    """RFC 6376 3.5: what each tag may say."""
    if tags.get("a") and tags["a"].lower() not in _ALGORITHMS:
        yield f"a={tags['a'][:30]} is no algorithm that there is"
    for name in ("b", "bh"):
        if tags.get(name) and not _is_base64(tags[name]):
            yield f"{name}= is no base64"
    if any(form not in ("simple", "relaxed") for form in tags.get("c", "simple").lower().split("/", 1)):
        yield f"c={tags['c'][:30]} is none of simple and relaxed"
    if "dns/txt" not in tags.get("q", "dns/txt").lower().split(":"):
        yield f"q={tags['q'][:30]} does not have dns/txt, and nobody looks elsewhere for keys"
    for name in ("l", "t", "x"):
        if name in tags and not (tags[name].isascii() and tags[name].isdigit()):
            yield f"{name}={tags[name][:30]} is no number"
    if tags.get("l", "").isdecimal() and len(tags["l"]) < 20 and int(tags["l"]) > body:
        yield f"l={tags['l']} is more than the body has"
    if tags.get("h") and "" in tags["h"].split(":"):
        yield f"h= has an empty name: {tags['h'][:60]}"


def _is_base64(value: str) -> bool:
    try:
        return bool(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return False


def _seconds(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 12 else None


def _length(signature: Signature) -> Iterator[Finding]:
    about = _about(signature.selector, signature.domain)
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


def _tags(value: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in value.split(";")[:50]:
        name, equals, content = part.partition("=")
        if equals:
            tags.setdefault(name.strip(), "".join(content.split()))
    return tags


def _signature(tags: dict[str, str]) -> Signature:
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
