"""How a large mailbox provider would judge a message: SPF, DKIM, DMARC and reverse DNS of the client.

The verdicts are those of published libraries, never of the code under test: pyspf (RFC 7208), dkimpy (RFC
6376), and authheaders for the DMARC record and the organizational domain. authheaders' own combination
(`check_dmarc`) is not used: it cuts domains at the first hyphen, so at every internationalised one, takes
`sp` for the domain itself, and looks at one signature only. RFC 7489 3.1 and 6.6 are applied here to the
libraries' results instead. A look-up that fails makes a result `temperror`; nothing in a message makes the
judge fail.
"""

from __future__ import annotations

import contextvars
import dataclasses
import email
import email.policy
import functools
from dataclasses import dataclass
from email.errors import InvalidHeaderDefect
from ipaddress import ip_address
from typing import Any

import dkim
import dkim.util
import idna
import spf
from authheaders import dmarc_lookup

from todoku.rehearsal.internet import lookups
from todoku.rehearsal.internet.lookups import LookupFailed, Resolver


@dataclass(frozen=True, slots=True)
class Spf:
    """`domain` is the envelope sender's, or the EHLO name for the null sender (RFC 7208 2.4)."""

    result: str
    domain: str
    aligned: bool  # relaxed: same organizational domain as header From


@dataclass(frozen=True, slots=True)
class Dkim:
    """One signature, in the order of the message."""

    result: str
    domain: str
    selector: str
    aligned: bool


@dataclass(frozen=True, slots=True)
class Dmarc:
    """`policy` is what the domain owner asks for, empty without a record; `domain` is header From's."""

    result: str
    policy: str
    domain: str


@dataclass(frozen=True, slots=True)
class Iprev:
    """Forward-confirmed reverse DNS (RFC 8601 2.7.3)."""

    result: str
    name: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that was found about one message for one recipient."""

    mail_from: str
    rcpt_to: str
    header_from: str
    client_ip: str
    tls: bool
    spf: Spf
    dkim: tuple[Dkim, ...]
    dmarc: Dmarc
    iprev: Iprev

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


def judge(
    message: bytes, mail_from: str, rcpt_to: str, client_ip: str, helo: str, tls: bool, resolver: Resolver
) -> Judgement:
    """Judge `message` as it arrived from `client_ip`; every DNS question goes to `resolver`."""
    authors = _authors(message)
    # RFC 7489 6.6.1: several From domains have no defined result, and large providers refuse them.
    domain = _a_labels(authors[0].rpartition("@")[2]) if len(authors) == 1 else ""
    spf_result = _spf(mail_from, client_ip, helo, domain, resolver)
    signatures = _dkim(message, domain, resolver)
    return Judgement(
        mail_from,
        rcpt_to,
        ", ".join(authors),
        client_ip,
        tls,
        spf_result,
        signatures,
        _dmarc(domain, spf_result, signatures, resolver),
        _iprev(client_ip, resolver),
    )


def _authors(message: bytes) -> list[str]:
    try:
        headers = email.message_from_bytes(message, policy=email.policy.SMTP).get_all("From", [])
        if any(isinstance(defect, InvalidHeaderDefect) for header in headers for defect in header.defects):
            return []
        return [address.addr_spec for header in headers for address in header.addresses]
    except Exception:  # the standard library's parser fails in many ways on hostile fields
        return []


def _a_labels(domain: str) -> str:
    try:
        return domain.lower() if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return ""


@functools.lru_cache(maxsize=4096)  # the library reads the whole public suffix list for each question: 77 ms
def organizational_domain(domain: str) -> str:
    """RFC 7489 3.2; empty for what is no domain."""
    try:
        found = str(dmarc_lookup.get_org_domain(domain) or "") if domain else ""
    except (ValueError, UnicodeError):
        return ""
    # The library answers with the last label alone when the list does not know it (.example, .internal),
    # so that everything there would be aligned. The list's own rule for that is "*": one label more.
    return found if "." in found else ".".join(domain.split(".")[-2:])


def _aligned(domain: str, other: str) -> bool:
    organization = organizational_domain(domain)
    return bool(organization) and organization == organizational_domain(other.lower())


# -- SPF. pyspf asks its module-wide `DNSLookup`; each judgement brings its own resolver along in the context.

_resolver: contextvars.ContextVar[Resolver] = contextvars.ContextVar("resolver")


def _spf_lookup(name: str, kind: str, _strict: object = True, _timeout: float = 0) -> list[tuple[Any, Any]]:
    try:
        records = _resolver.get()(name, kind)
    except LookupFailed as problem:
        raise spf.TempError(f"DNS {problem}") from problem
    if kind == "TXT":
        return [((name, kind), (record,)) for record in records]
    if kind == "MX":
        pairs = [record.decode().split() for record in records]
        return [((name, kind), (int(preference), host.rstrip("."))) for preference, host in pairs]
    return [((name, kind), record) for record in lookups.names(records)]


spf.DNSLookup = _spf_lookup


def _spf(mail_from: str, client_ip: str, helo: str, author_domain: str, resolver: Resolver) -> Spf:
    domain = _a_labels(mail_from.rpartition("@")[2] if mail_from else helo)
    token = _resolver.set(resolver)
    try:
        result, _ = spf.check2(i=client_ip, s=mail_from, h=helo)
    except LookupFailed:
        result = "temperror"
    except Exception:  # pyspf on names that are none
        result = "permerror"
    finally:
        _resolver.reset(token)
    return Spf(result, domain, _aligned(author_domain, domain))


# -- DKIM


def _dkim(message: bytes, author_domain: str, resolver: Resolver) -> tuple[Dkim, ...]:
    try:
        verifier = dkim.DKIM(message)
    except Exception:  # dkimpy on what is no message: then there is no signature either
        return ()
    signatures = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    return tuple(
        _signature(message, index, value, author_domain, resolver) for index, value in enumerate(signatures)
    )


def _signature(message: bytes, index: int, value: bytes, author_domain: str, resolver: Resolver) -> Dkim:
    try:
        tags = dkim.util.parse_tag_value(value)
    except Exception:  # not a tag list
        return Dkim("permerror", "", "", False)
    domain = tags.get(b"d", b"").decode("ascii", "replace").lower()
    selector = tags.get(b"s", b"").decode("ascii", "replace")
    keys: list[bytes] = []

    def key(name: bytes, timeout: float = 0) -> bytes | None:  # noqa: ARG001 - dkimpy passes it
        found = resolver(name.decode("ascii", "replace").rstrip("."), "TXT")
        keys.extend(found)
        return found[0] if found else None

    try:
        passed = dkim.DKIM(message).verify(idx=index, dnsfunc=key)
        # RFC 8601 2.7.1: a key that is not there is a permanent error, a signature that is wrong a failure.
        result = "pass" if passed else "fail" if any(keys) else "permerror"
    except LookupFailed:
        result = "temperror"
    except dkim.ValidationError:
        result = "fail"
    except Exception:  # dkimpy on a field that is no signature
        result = "permerror"
    return Dkim(result, domain, selector, _aligned(author_domain, domain))


# -- DMARC


def _dmarc(domain: str, spf_result: Spf, signatures: tuple[Dkim, ...], resolver: Resolver) -> Dmarc:
    if not domain:
        return Dmarc("permerror", "", domain)
    try:
        record, inherited = _record(domain, resolver)
    except LookupFailed:
        return Dmarc("temperror", "", domain)
    except dmarc_lookup.DMARCException:
        return Dmarc("permerror", "", domain)
    if "p" not in record:
        return Dmarc("none", "", domain)
    policy = record.get("sp", record["p"]) if inherited else record["p"]
    passed = (spf_result.result == "pass" and _within(domain, spf_result, record.get("aspf"))) or any(
        signature.result == "pass" and _within(domain, signature, record.get("adkim"))
        for signature in signatures
    )
    unknown = "temperror" in (spf_result.result, *(signature.result for signature in signatures))
    return Dmarc("pass" if passed else "temperror" if unknown else "fail", policy, domain)


def _within(domain: str, found: Spf | Dkim, mode: str | None) -> bool:
    return found.domain == domain if mode == "s" else found.aligned


def _record(domain: str, resolver: Resolver) -> tuple[dict[str, str], bool]:
    """The DMARC record, and whether it is the organizational domain's (RFC 7489 6.6.3)."""

    def text(name: str) -> str | None:
        records = [record for record in resolver(name, "TXT") if record.startswith(b"v=DMARC1")]
        return records[0].decode("ascii", "replace") if len(records) == 1 else None

    record = dmarc_lookup.lookup_receiver_record(domain, dnsfunc=text)
    organization = organizational_domain(domain)
    if record or organization in ("", domain):
        return record, False
    return dmarc_lookup.lookup_receiver_record(organization, dnsfunc=text), True


# -- reverse DNS


def _iprev(client_ip: str, resolver: Resolver) -> Iprev:
    try:
        pointers = lookups.names(resolver(ip_address(client_ip).reverse_pointer, "PTR"))
        family = ip_address(client_ip).version
        for name in pointers[:10]:
            found = lookups.names(resolver(name, lookups.ADDRESS_TYPES[family]))
            if ip_address(client_ip) in map(ip_address, found):
                return Iprev("pass", name)
    except LookupFailed:
        return Iprev("temperror", "")
    return Iprev("fail", pointers[0]) if pointers else Iprev("permerror", "")
