"""Whether mail to a domain can go within TLS, seen from here: STARTTLS at its MX hosts (RFC 3207), whether their
certificates convince, and whether they keep what the domain promises: MTA-STS (RFC 8461 4), DANE (RFC 7672).

No mail is sent: EHLO, STARTTLS, EHLO, QUIT, at most twice at a few hosts. Most who deliver take any certificate,
so one that does not convince is a warning, and a failure only where a promise is broken: then nothing is delivered.
"""

from __future__ import annotations

import hashlib
import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from todoku.check import inbound_tls, mx
from todoku.check.dialogue import Dialogue, Refused, anybody, greeted
from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Dns, Means, Unanswered
from todoku.check.runner import Step
from todoku.dns.text import short

_MOST = 3  # hosts, the preferred first
_ADDRESSES = 2  # of each
_SECONDS = 3.0  # for each wait
_ALL_SECONDS = 7.0  # for all hosts together, within the step's deadline
_SOON = 14  # days
_DANE_EE = "3"  # the only usage for which the certificate alone is enough
_HASHES: dict[str, Callable[[bytes], bytes]] = {
    "0": bytes,
    "1": lambda der: hashlib.sha256(der).digest(),
    "2": lambda der: hashlib.sha512(der).digest(),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """What one host showed. `trouble`: why TLS, or trust in it, did not come about; `leaf`: its certificate in DER."""

    host: str
    reached: bool = True
    refused: bool = False  # it talks to us, and will have nothing to do with us
    trouble: str = ""
    version: str = ""
    leaf: bytes | None = None


@dataclass(frozen=True, slots=True)
class Tlsa:
    """The TLSA records of a host's port 25 that can be used; `vouched`: the resolver has validated them."""

    records: tuple[tuple[str, str, str, str], ...]  # usage, selector, matching type, data
    vouched: bool

    def fit(self, leaf: bytes) -> bool:
        """Whether one of them is about this certificate (RFC 6698 2.1)."""
        key = x509.load_der_x509_certificate(leaf).public_key()
        selected = {"0": leaf, "1": key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)}
        return any(
            selector in selected and kind in _HASHES and _HASHES[kind](selected[selector]).hex() == data
            for _, selector, kind, data in self.records
        )


def steps(domain: str, means: Means) -> list[Step]:
    return [Step("mx.tls", domain, lambda: look(domain, means))]


def look(domain: str, means: Means) -> Iterator[Finding]:
    """One finding for each host; one in all when none can be reached. Raises Unanswered."""
    if not mx.takes_mail(domain, means.dns):
        return  # `mx.record` tells it
    hosts = list(dict.fromkeys(mx.hosts(domain, means.dns)))[:_MOST]
    policy = inbound_tls.policy(domain, means)
    enforced = policy is not None and policy.mode == "enforce"
    shown = _all_shown(hosts, means)
    if not any(each.reached for each in shown):
        advice = "Look from a machine that may connect to port 25 of others: many networks, Oracle's too, let nobody"
        yield unknown("mx.tls", f"{', '.join(hosts)} cannot be reached at port 25 from here", advice, domain)
        return
    for each in shown:
        yield _judged(each, _tlsa(each.host, means.dns), enforced, means.now())


def _judged(shown: Shown, tlsa: Tlsa | None, enforced: bool, now: datetime) -> Finding:
    host = shown.host
    if not shown.reached or shown.refused:
        advice = f"See whether {host} runs and takes mail; others may be let in where we are not"
        return unknown("mx.tls", f"{host}: {shown.trouble}", advice, host)
    promised = enforced or (tlsa is not None and tlsa.vouched)
    tell = failed if promised else warned
    keeps = (
        "who keeps to MTA-STS or DANE delivers nothing"
        if promised
        else "mail can be read or led astray on its way"
    )
    if shown.leaf is None:
        advice = f"Have {host} offer STARTTLS with a certificate"
        return tell("mx.tls", f"{host}: {shown.trouble}; {keeps}", advice, host)
    if tlsa is not None and not tlsa.fit(shown.leaf):
        seen = f"{host}: the TLSA record at _25._tcp.{host} is not about its certificate"
        told = failed if tlsa.vouched else warned
        return told(
            "mx.tls", seen, "Publish the TLSA record of the certificate that is in use, or remove it", host
        )
    matched = tlsa is not None and tlsa.vouched  # neither name nor expiry counts then (RFC 7672 3.1.1)
    if shown.trouble and (enforced or not matched):
        advice = f"Have {host} show a certificate for that name, of a public authority, with its chain"
        return tell("mx.tls", f"{host}: {shown.trouble}; {keeps}", advice, host)
    ends = x509.load_der_x509_certificate(shown.leaf).not_valid_after_utc
    if (ends - now).days < _SOON and not matched:
        return warned("mx.tls", f"{host}: its certificate ends on {ends:%Y-%m-%d}", "Renew it", host)
    how = "as its TLSA record says" if matched else f"for that name, until {ends:%Y-%m-%d}"
    return passed("mx.tls", f"{host}: STARTTLS, {shown.version}, certificate {how}", host)


def _all_shown(hosts: list[str], means: Means) -> list[Shown]:
    """All hosts at the same time; one that takes too long is left behind, its thread ends with the process."""
    told: queue.SimpleQueue[Shown] = queue.SimpleQueue()
    for host in hosts:
        threading.Thread(target=lambda host=host: told.put(_shown(host, means)), daemon=True).start()
    deadline = means.monotonic() + _ALL_SECONDS
    found: dict[str, Shown] = {}
    with suppress(queue.Empty):
        while len(found) < len(hosts):
            shown = told.get(timeout=max(0.0, deadline - means.monotonic()))
            found[shown.host] = shown
    late = f"no answer within {_ALL_SECONDS:g} s"
    return [found.get(host) or Shown(host, refused=True, trouble=late) for host in hosts]


def _shown(host: str, means: Means) -> Shown:
    try:
        addresses = [each for each in means.dns.addresses(host) if mx.is_public(each)][:_ADDRESSES]
    except Unanswered as problem:
        return Shown(host, reached=False, trouble=str(problem))
    trouble = "it has no address that the world can reach"
    for address in addresses:
        try:
            dialogue = Dialogue(means.connect, address, 25, _SECONDS)
        except OSError as problem:
            trouble = f"{address} port 25: {problem.strerror or problem or 'no answer in time'}"
            continue
        with dialogue:
            return _talked(host, address, dialogue, means)
    return Shown(host, reached=False, trouble=trouble)


def _talked(host: str, address: str, dialogue: Dialogue, means: Means) -> Shown:
    try:
        return _secured(host, dialogue, means.trust())
    except ssl.SSLCertVerificationError as problem:
        why = f"its certificate does not convince ({problem.verify_message})"
    except Refused as problem:
        return Shown(host, refused=True, trouble=short(str(problem)))
    except NoStarttls as problem:
        return Shown(host, trouble=str(problem))
    except ssl.SSLError as problem:
        return Shown(host, trouble=f"TLS does not come about ({problem.reason or 'broken off'})")
    except (OSError, ValueError) as problem:
        return Shown(host, refused=True, trouble=short(str(problem) or "no answer in time"))
    try:
        with Dialogue(means.connect, address, 25, _SECONDS) as again:
            shown = _secured(host, again, anybody())
    except (OSError, ValueError) as problem:
        return Shown(host, trouble=f"{why}; a second time: {short(str(problem))}")
    return Shown(host, trouble=why, version=shown.version, leaf=shown.leaf)


class NoStarttls(ConnectionError):
    """The host has no TLS for us. The message says what it said."""


def _secured(host: str, dialogue: Dialogue, context: ssl.SSLContext) -> Shown:
    """EHLO, STARTTLS, EHLO, QUIT. Raises OSError, NoStarttls, ValueError for a name that TLS cannot name."""
    name = _literal(dialogue.socket.getsockname()[0])
    if not greeted(dialogue, name).offers("STARTTLS"):
        raise NoStarttls("it does not offer STARTTLS")
    answer = dialogue.say("STARTTLS")
    if answer.code != 220:
        raise NoStarttls(f"it answers STARTTLS with {short(str(answer))}")
    secured = dialogue.secure(context, host)
    leaf, version = secured.getpeercert(binary_form=True), secured.version() or ""
    with suppress(OSError):  # what it says after that changes nothing
        dialogue.say(f"EHLO {name}")
        dialogue.send(b"QUIT\r\n")
    return Shown(host, version=version, leaf=leaf)


def _literal(address: str) -> str:
    """Our own address as RFC 5321 4.1.3 writes it: a name that we may not have is not claimed."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _tlsa(host: str, dns: Dns) -> Tlsa | None:
    try:
        answer = dns.ask(f"_25._tcp.{host}", "TLSA")
    except Unanswered:
        return None
    records = []
    for value in answer.values[:20]:
        usage, _, rest = value.partition(" ")
        parts = rest.split(" ", 2)
        if usage == _DANE_EE and len(parts) == 3:
            records.append((usage, parts[0], parts[1], parts[2].replace(" ", "")))
    return Tlsa(tuple(records), answer.authenticated) if records else None
