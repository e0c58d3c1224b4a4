"""Whom a message from outside really comes from: SPF, DKIM and DMARC.

SPF is pyspf's verdict (RFC 7208), each DKIM signature dkimpy's (RFC 6376); what DMARC makes of them follows RFC
9989. Everything here blocks while it waits for the DNS, within a deadline: it runs in a thread. Nothing in a
message makes it fail; a question that gets no answer makes a result "temperror". A fault of ours is no result: it is
raised, and what a library should not have raised leaves its traceback in the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import dkim
import dkim.util
import idna
import spf

from todoku.gate import dmarc
from todoku.gate.authors import authors
from todoku.gate.resolver import DnsTrouble, Lookup
from todoku.gate.resolver import Found as Answer

MOST_SIGNATURES = 8  # looked at in one message
LARGE = 1024 * 1024  # bodies above this are checked one at a time: dkimpy needs several times their size
_large = threading.Lock()
_judged: ContextVar[str] = ContextVar("the queue id of the message in question", default="NOQUEUE")
log = logging.getLogger("todoku.gate")

# What the libraries are known to raise on what somebody else wrote.
_HOSTILE = (dkim.DKIMException, dkim.UnparsableKeyError, ValueError, LookupError)


@dataclass(frozen=True, slots=True)
class Spf:
    """`domain`: that of the envelope sender, or the EHLO name for the null sender (RFC 7208 2.4)."""

    result: str
    domain: str


@dataclass(frozen=True, slots=True)
class Dkim:
    """One signature."""

    result: str
    domain: str
    selector: str
    beginning: str  # of the signature itself: tells two of the same domain apart (RFC 6008)


@dataclass(frozen=True, slots=True)
class Dmarc:
    """For one author domain. `aligned`: a pass of SPF or DKIM that belongs to it, record or not; `uncertain`: one
    might be among those that the DNS gave no answer to."""

    domain: str
    result: str  # "pass", "fail", "none" (no record), "temperror"
    policy: str  # as asked for by the domain's owner; "" without a record
    aligned: bool
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was found out about one message. `authors`: one for each domain in header From."""

    spf: Spf
    dkim: tuple[Dkim, ...]
    authors: tuple[Dmarc, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What DKIM needs to know: the header block as it arrived; the body, of `size` bytes, read when it is its turn."""

    header: bytes
    body: Callable[[], bytes]
    size: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """What SPF needs to know."""

    address: str  # of the client
    helo: str
    sender: str


def evaluate(
    envelope: Envelope,
    domains: tuple[str, ...],
    content: Content | None,
    lookup: Lookup,
    deadline: float,
    queue_id: str | None = None,
) -> Found:
    """`domains`: those of header From. `content`: the message, or None when it has no signature."""
    _judged.set(queue_id or "NOQUEUE")
    asked = _Asked(lookup)
    spf_result = check_spf(envelope, asked)
    signatures = check_dkim(content, asked, deadline) if content else ()
    if asked.fault:
        raise asked.fault
    return Found(
        spf_result, signatures, tuple(_dmarc(domain, spf_result, signatures, lookup) for domain in domains)
    )


class _Asked:
    """Look-ups on behalf of a library. A fault of ours in one is kept: else it would count against the message."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.fault: Exception | None = None

    def __call__(self, name: str, kind: str) -> Answer:
        try:
            return self._lookup(name, kind)
        except DnsTrouble:
            raise
        except Exception as fault:
            self.fault = fault
            raise


def author_domains(froms: list[str]) -> tuple[str, ...]:
    """The domains of all addresses in the From headers, each once, as A-labels; () where none can be read."""
    found: dict[str, None] = {}
    for value in froms:
        for author in authors(value):
            domain = _a_labels(author.address.rpartition("@")[2])
            if domain:
                found[domain] = None
    return tuple(found)


def _a_labels(domain: str) -> str:
    try:
        return domain.lower().rstrip(".") if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return ""


# -- SPF


class _Query(spf.query):  # type: ignore[misc]
    """pyspf with our look-ups instead of its module-wide one."""

    def __init__(self, lookup: Lookup, address: str, sender: str, helo: str) -> None:
        super().__init__(i=address, s=sender, h=helo, timeout=0, querytime=0)
        self.lookup = lookup

    def dns(
        self,
        name: str,
        qtype: str,
        cnames: object = None,  # noqa: ARG002
        ignore_void: bool = False,
    ) -> list[Any]:
        name = str(name).rstrip(".").lower()
        if not name or not all(0 < len(label) < 64 for label in name.split(".")):
            return []
        try:
            values = self.lookup(name, qtype).values
        except DnsTrouble as problem:
            raise spf.TempError(f"DNS {problem}") from problem
        if not values and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")
        return [_as_pyspf_has_it(value, qtype) for value in values]


def _as_pyspf_has_it(value: bytes, kind: str) -> Any:
    if kind == "TXT":
        return (value,)
    text = value.decode("ascii", "replace")
    if kind == "MX":
        preference, _, host = text.partition(" ")
        return int(preference), host
    return text


def check_spf(envelope: Envelope, lookup: Lookup) -> Spf:
    """RFC 7208 for the envelope sender, or for the EHLO name when it is null."""
    domain = _a_labels(envelope.sender.rpartition("@")[2] if envelope.sender else envelope.helo)
    if not envelope.address or not domain:
        return Spf("none", domain)
    try:
        result, _, _ = _Query(lookup, envelope.address, envelope.sender, envelope.helo).check()
    except _HOSTILE:  # pyspf on names that are none
        result = "permerror"
    except Exception:
        log.exception("%s: pyspf failed on %r: taken for permerror", _judged.get(), envelope)
        result = "permerror"
    return Spf(str(result).lower(), domain)


# -- DKIM


def check_dkim(content: Content, lookup: Lookup, deadline: float) -> tuple[Dkim, ...]:
    """Each signature of the message, the first `MOST_SIGNATURES` of them."""
    if content.size <= LARGE:
        return _signatures(content, lookup)
    if not _large.acquire(timeout=max(0.0, deadline - time.monotonic())):
        return (Dkim("temperror", "", "", ""),)
    try:
        return _signatures(content, lookup)
    finally:
        _large.release()


def _signatures(content: Content, lookup: Lookup) -> tuple[Dkim, ...]:
    try:
        headers, _ = dkim.rfc822_parse(content.header)
    except dkim.MessageFormatError:  # what is no message has no signature either
        return ()
    fields = [value for name, value in headers if name.lower() == b"dkim-signature"]
    if not fields:
        return ()
    message = _Message(headers, content.body())
    return tuple(
        _signature(message, index, value, lookup) for index, value in enumerate(fields[:MOST_SIGNATURES])
    )


@dataclass(frozen=True, slots=True)
class _Message:
    """As dkimpy has it, which would make a list of all the body's lines first."""

    headers: list[list[bytes]]
    body: bytes

    def verify(self, index: int, key: Callable[..., bytes | None]) -> bool:
        verifier = dkim.DKIM()
        verifier.headers, verifier.body = self.headers, self.body
        return bool(verifier.verify(idx=index, dnsfunc=key))


def _signature(message: _Message, index: int, value: bytes, lookup: Lookup) -> Dkim:
    try:
        tags = dkim.util.parse_tag_value(value)
    except dkim.util.InvalidTagValueList:
        return Dkim("permerror", "", "", "")
    domain, selector, signed = (tags.get(tag, b"").decode("ascii", "replace") for tag in (b"d", b"s", b"b"))
    keys: list[bytes] = []

    def key(name: bytes, timeout: float = 0) -> bytes | None:  # noqa: ARG001 - dkimpy passes it
        keys.extend(lookup(name.decode("ascii", "replace").rstrip("."), "TXT").values)
        return keys[0] if keys else None

    try:
        if tags.get(b"a", b"").lower() == b"rsa-sha1":
            result = "permerror"  # RFC 8301 3.1: nobody may rely on it any more
        else:
            passed = message.verify(index, key)
            # RFC 8601 2.7.1: a key that is not there is a permanent error, a signature that is wrong a failure.
            result = "pass" if passed else "fail" if any(keys) else "permerror"
    except DnsTrouble:
        result = "temperror"
    except dkim.ValidationError:
        result = "fail"
    except _HOSTILE:  # a field that is no signature, or a key that is none
        result = "permerror"
    except Exception:
        log.exception("%s: dkimpy failed on signature %d: taken for permerror", _judged.get(), index + 1)
        result = "permerror"
    return Dkim(result, domain.lower(), selector, "".join(signed.split())[:8])


# -- DMARC


def _dmarc(domain: str, spf_result: Spf, signatures: tuple[Dkim, ...], lookup: Lookup) -> Dmarc:
    walks: dict[str, dmarc.Walk] = {}

    def walk(name: str) -> dmarc.Walk:
        return walks.setdefault(name, dmarc.Walk(name, lookup))

    def related(other: str, mode: str | None) -> bool:
        if other == domain:
            return True
        return mode != "s" and bool(other) and walk(other).organization == walk(domain).organization

    uncertain = "temperror" in (spf_result.result, *(signature.result for signature in signatures))
    try:
        record = walk(domain).policy
        tags = record.tags if record else {}
        aligned = (spf_result.result == "pass" and related(spf_result.domain, tags.get("aspf"))) or any(
            signature.result == "pass" and related(signature.domain, tags.get("adkim"))
            for signature in signatures
        )
        uncertain = uncertain and not aligned
        if record is None:
            return Dmarc(domain, "none", "", aligned, uncertain)
        policy = record.policy_for(domain, exists=dmarc.exists(domain, lookup))
    except DnsTrouble:
        return Dmarc(domain, "temperror", "", aligned=False, uncertain=True)
    result = "pass" if aligned else "temperror" if uncertain else "fail"
    return Dmarc(domain, result, policy, aligned, uncertain)
