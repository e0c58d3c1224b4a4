"""DKIM (rows 1, 2 and 18): the key's record is there, can be read, and is strong enough (RFC 6376 3.6, 8301, 8463).

Behind the relay the record is a CNAME to a name of Oracle's, and Oracle holds the key: what it says of the key's state
and of the right target counts (`cloud`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Dns, Means, Unanswered
from todoku.check.runner import Step
from todoku.cloud.client import Cloud
from todoku.cloud.dkim import look_at
from todoku.cloud.values import ACTIVE, Dkim

_CHAIN = 8  # CNAMEs followed
_ED25519 = 32  # bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key record that can be used for mail."""

    type: str  # "rsa", "ed25519"
    bits: int
    test: bool


class Unusable(ValueError):
    """A record that is no key. The message says why; `todo` what to do."""

    def __init__(self, message: str, todo: str) -> None:
        super().__init__(message)
        self.todo = todo


def steps(domain: str, means: Means, selectors: Sequence[str] = ()) -> list[Step]:
    """With the cloud at hand, its keys are looked at; else those of `selectors`."""
    cloud = means.cloud
    found = [
        Step("dkim.record", domain, lambda selector=selector: record(domain, selector, means.dns))  # type: ignore[misc]
        for selector in selectors
    ]
    if cloud is not None and not selectors:
        return [Step("dkim.active", domain, lambda: of_cloud(domain, cloud, means.dns))]
    return found or [Step("dkim.record", domain, lambda: without_selector(domain, means.dns))]


def of_cloud(domain: str, cloud: Cloud, dns: Dns) -> Iterator[Finding]:
    """The keys that Oracle has for the domain, and their records."""
    keys = look_at(domain, cloud).keys
    key = keys.current
    if key is None:
        advice = "Run `todoku apply`, which makes one"
        yield failed("dkim.active", f"Oracle has no DKIM key for {domain}", advice, domain)
        return
    if key.state == ACTIVE:
        yield passed("dkim.active", f"Oracle signs with the key {key.selector}", domain)
    else:
        said = f" ({key.details})" if key.details else ""
        seen = f"Oracle does not sign with the key {key.selector} yet: {key.state}{said}"
        yield failed("dkim.active", seen, _publish(key), domain)
    if key.cname:
        yield _target(domain, key.record_name, key.cname, dns)
    yield from record(domain, key.selector, dns)


def _publish(key: Dkim) -> str:
    """Oracle looks for the record, and signs when it has found it."""
    if not key.cname:
        return "Run `todoku apply` again in a few minutes: Oracle has not said yet which record it wants"
    return (
        f"See that {key.record_name} is a CNAME to {key.cname}, and wait: Oracle may take an hour or more to find it. "
        "Until then mail goes out without a signature of the domain"
    )


def _target(domain: str, name: str, target: str, dns: Dns) -> Finding:
    target = target.rstrip(".").lower()
    seen = dns.values(name, "CNAME")
    if seen == (target,):
        return passed("dkim.target", f"{name} is a CNAME to {target}", domain)
    advice = f"Publish {name} CNAME {target}"
    if not seen:
        return failed("dkim.target", f"{name} is no CNAME; Oracle asks for one to {target}", advice, domain)
    return failed("dkim.target", f"{name} is a CNAME to {', '.join(seen)}, not to {target}", advice, domain)


def without_selector(domain: str, dns: Dns) -> Iterator[Finding]:
    """Nobody can list a domain's selectors; whether there may be any can be told (RFC 8020)."""
    exists = dns.for_gate(f"_domainkey.{domain}", "TXT").exists
    if not exists:
        seen = f"nothing is published below _domainkey.{domain}"
        yield failed("dkim.record", seen, "Have mail signed with DKIM, and publish the key", domain)
    else:
        seen = f"there is something below _domainkey.{domain}, and which keys cannot be asked without their names"
        advice = "Name the selector (--selector), or look at a message: the s= in its DKIM-Signature"
        yield unknown("dkim.record", seen, advice, domain)


def record(domain: str, selector: str, dns: Dns) -> Iterator[Finding]:
    """The record of one key."""
    name = f"{selector}._domainkey.{domain}"
    try:
        texts = dns.values(name, "TXT")
    except Unanswered:
        if (loop := _loop(name, dns)) is None:
            raise
        yield failed("dkim.record", loop, "Publish the CNAME that Oracle asks for, and no other", domain)
        return
    if not texts:
        alias = dns.values(name, "CNAME")
        seen = (
            f"{name} is a CNAME to {alias[0]}, where there is no key"
            if alias
            else f"there is no record at {name}"
        )
        yield failed("dkim.record", seen, f"Publish the key's record at {name}", domain)
        return
    if len(texts) > 1:
        seen = f"{name} has {len(texts)} TXT records, and which one is used is anybody's guess"
        yield failed("dkim.record", seen, "Leave only the key there", domain)
        return
    try:
        key = read(texts[0])
    except Unusable as problem:
        yield failed("dkim.record", f"{name}: {problem}", problem.todo, domain)
        return
    yield passed("dkim.record", f"{name} has a key", domain)
    yield from _strength(domain, name, key)


def _strength(domain: str, name: str, key: Key) -> Iterator[Finding]:
    if key.type == "ed25519":
        seen = f"{name} is an Ed25519 key, which Gmail and others do not check"
        yield warned("dkim.type", seen, "Sign with an RSA key of 2048 bits as well", domain)
    elif key.bits > 4096:
        seen = f"{name} has {key.bits} bits; nobody has to check more than 4096 (RFC 8301 3.2)"
        yield warned("dkim.type", seen, "Make a key of 2048 bits", domain)
    else:
        yield passed("dkim.type", f"{name} is an RSA key", domain)
    if key.type == "rsa" and key.bits < 1024:
        seen = f"{name} has {key.bits} bits, which everybody has to ignore (RFC 8301 3.2)"
        yield failed("dkim.length", seen, "Make a key of 2048 bits", domain)
    elif key.type == "rsa" and key.bits < 2048:
        yield warned("dkim.length", f"{name} has {key.bits} bits", "Make a key of 2048 bits", domain)
    else:
        yield passed("dkim.length", f"{name} has {key.bits} bits", domain)
    if key.test:
        seen = f"{name} says t=y: receivers treat the mail as if it were not signed"
        yield warned("dkim.test", seen, "Remove t=y from the record", domain)
    else:
        yield passed("dkim.test", f"{name} is meant seriously", domain)


def read(text: str) -> Key:
    """The key that a TXT record is. Raises Unusable."""
    again = "Publish the record anew, copied as a whole"
    tags: dict[str, str] = {}
    parts = text.split(";")
    if parts and not parts[-1].strip():
        parts.pop()
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise Unusable(f'the record has "{part.strip()[:40]}", which is no TAG=VALUE', again)
        if name in tags:
            raise Unusable(f"the record has the tag {name} twice", again)
        tags[name] = "".join(value.split())
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != "DKIM1"):
        raise Unusable(f"v={tags['v']} is not v=DKIM1 at the beginning", again)
    if "p" not in tags:
        raise Unusable("the record has no p=, so no key", again)
    if not tags["p"]:
        raise Unusable("the key is revoked (p= is empty)", "Sign with another key, or publish this one again")
    if "h" in tags and "sha256" not in tags["h"].lower().split(":"):
        raise Unusable(f"the key is for h={tags['h']} only, and not for sha256", "Remove h= from the record")
    if "s" in tags and not {"*", "email"} & set(tags["s"].lower().split(":")):
        raise Unusable(f"the key is for s={tags['s']} only, and not for mail", "Remove s= from the record")
    kind = tags.get("k", "rsa").lower()
    return Key(kind, _bits(kind, tags["p"], again), "y" in tags.get("t", "").lower().split(":"))


def _bits(kind: str, coded: str, again: str) -> int:
    try:
        data = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise Unusable("p= is no base64: a part is missing, or something else got in", again) from None
    if kind == "ed25519":
        if len(data) != _ED25519:
            raise Unusable(f"p= has {len(data)} bytes; an Ed25519 key has {_ED25519}", again)
        return 256
    if kind != "rsa":
        raise Unusable(f"k={kind} is a kind of key that nobody knows", "Publish an RSA key")
    try:
        key = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm, TypeError):
        raise Unusable("p= is no RSA key: a part is missing, or something else got in", again) from None
    if not isinstance(key, RSAPublicKey):
        raise Unusable("p= is a key of another kind than RSA", again)
    return key.key_size


def _loop(name: str, dns: Dns) -> str | None:
    """Words about a CNAME that leads in a circle; None when it does not."""
    seen = [name]
    for _ in range(_CHAIN):
        try:
            alias = dns.values(seen[-1], "CNAME")
        except Unanswered:
            return None
        if not alias:
            return None
        if alias[0] in seen:
            return f"the CNAME of {name} leads in a circle: {' -> '.join((*seen, alias[0]))}"
        seen.append(alias[0])
    return f"the CNAME of {name} leads through more than {_CHAIN} others"
