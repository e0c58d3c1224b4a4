"""What a domain promises to those who deliver to it over TLS: MTA-STS (RFC 8461) and reports about TLS (RFC 8460).

Nobody has to promise anything. But large providers keep senders to a promise: with a policy that does not have the MX
hosts, they deliver nothing.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass

from todoku.check import mx
from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.means import Dns, Means
from todoku.check.runner import Step
from todoku.dns.text import short

_STS = re.compile(r"v=STSv1\s*;\s*id=[A-Za-z0-9]{1,32}\s*(;.*)?")
_RPT = re.compile(r"v=TLSRPTv1\s*;\s*rua=([^;]+?)\s*(;.*)?")
_MAILTO = re.compile(r"mailto:[^@!,\s]{1,64}@([A-Za-z0-9.-]{1,253})(\?.*)?", re.IGNORECASE)
_LARGEST = 65_536  # bytes of a policy
_LONGEST = 31_557_600  # seconds: max_age is at most a year
_SECONDS = 4.0  # for each wait
_NO_POLICY = "a policy that cannot be used is none; who remembers an earlier one keeps to that"


@dataclass(frozen=True, slots=True)
class Policy:
    """RFC 8461 3.2. `max_age` in seconds."""

    mode: str  # "enforce", "testing", "none"
    hosts: tuple[str, ...]  # patterns, in lower case
    max_age: int

    def allows(self, host: str) -> bool:
        """RFC 8461 4.1: "*." stands for exactly one label."""
        above = host.partition(".")[2]
        return any(pattern in (host, f"*.{above}") for pattern in self.hosts)


class Unusable(ValueError):
    """A policy that senders take for none. The message says why."""


def steps(domain: str, means: Means) -> list[Step]:
    return [
        Step("mta-sts.policy", domain, lambda: mta_sts(domain, means)),
        Step("tls-rpt.record", domain, lambda: tls_rpt(domain, means.dns)),
    ]


def mta_sts(domain: str, means: Means) -> Iterator[Finding]:
    """The record, the policy that it announces, and whether mail can be delivered by it."""
    name = f"_mta-sts.{domain}"
    texts = [value for value in means.dns.values(name, "TXT") if value.lower().startswith("v=sts")]
    if not texts:
        yield passed("mta-sts.policy", f"{domain} has no MTA-STS policy, which nobody asks for", domain)
        return
    if len(texts) > 1 or not _STS.fullmatch(texts[0]):
        seen = f"{name} has {len(texts)} records" if len(texts) > 1 else f'{name} has "{short(texts[0])}"'
        advice = f'Publish one record there, as "v=STSv1; id=20261124", or none ({_NO_POLICY})'
        yield warned("mta-sts.policy", f"{seen}, so that no policy counts", advice, domain)
        return
    where = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    try:
        policy = read(_fetched(f"mta-sts.{domain}", means))
    except (OSError, http.client.HTTPException, Unusable) as problem:
        advice = f"Put it right, or remove the record at {name} ({_NO_POLICY})"
        yield warned("mta-sts.policy", f"{where}: {problem or type(problem).__name__}", advice, domain)
        return
    yield _delivered(domain, policy, where, means.dns)


def policy(domain: str, means: Means) -> Policy | None:
    """The policy that senders keep to; None where there is none that counts. Raises Unanswered."""
    texts = [
        value for value in means.dns.values(f"_mta-sts.{domain}", "TXT") if value.lower().startswith("v=sts")
    ]
    if len(texts) != 1 or not _STS.fullmatch(texts[0]):
        return None
    try:
        return read(_fetched(f"mta-sts.{domain}", means))
    except (OSError, http.client.HTTPException, Unusable):
        return None  # `mta-sts.policy` tells it


def _delivered(domain: str, policy: Policy, where: str, dns: Dns) -> Finding:
    strangers = [host for host in mx.hosts(domain, dns) if not policy.allows(host)]
    if policy.mode == "none" or not strangers:
        told = f"{where} says {policy.mode}"
        return passed("mta-sts.policy", told + (" and has all MX hosts" if policy.hosts else ""), domain)
    seen = f"{where} says {policy.mode} and does not have the MX host {', '.join(strangers)}"
    advice = f"Add mx: {strangers[0]} to the policy, then change id= in the record at _mta-sts.{domain}"
    tell = failed if policy.mode == "enforce" else warned
    return tell("mta-sts.policy", seen, advice, domain)


def read(text: str) -> Policy:
    """The policy that the text is. Raises Unusable."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon and line.strip():
            raise Unusable(f'the policy has the line "{short(line)}", which is no NAME: VALUE')
        values.setdefault(key.strip(), []).append(value.strip())
    version, mode, age = (values.get(key, [""])[0] for key in ("version", "mode", "max_age"))
    if version != "STSv1":
        raise Unusable("the policy does not say version: STSv1")
    if mode not in ("enforce", "testing", "none"):
        raise Unusable(f'mode: "{short(mode)}" is none of enforce, testing, none')
    if not (age.isascii() and age.isdigit() and len(age) <= 10 and int(age) <= _LONGEST):
        raise Unusable(f'max_age: "{short(age)}" is no number of seconds up to {_LONGEST}')
    hosts = tuple(host.lower().rstrip(".") for host in values.get("mx", []))
    if not hosts and mode != "none":
        raise Unusable("the policy names no MX host")
    return Policy(mode, hosts, int(age))


def _fetched(host: str, means: Means) -> str:
    """RFC 8461 3.3: by HTTPS, within a certificate that is right; redirections are not followed."""
    with (
        means.connect(host, 443, _SECONDS) as raw,
        means.trust().wrap_socket(raw, server_hostname=host) as secured,
    ):
        request = f"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        secured.sendall(request.encode())
        with http.client.HTTPResponse(secured) as answer:
            answer.begin()
            if answer.status != http.HTTPStatus.OK:
                raise Unusable(f"it is answered by {answer.status}, not by 200")
            body = answer.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise Unusable("the policy is larger than 64 KiB")
    return body.decode("ascii", "replace")


def tls_rpt(domain: str, dns: Dns) -> Iterator[Finding]:
    """Whether reports about TLS can be sent (RFC 8460 3)."""
    name = f"_smtp._tls.{domain}"
    texts = [value for value in dns.values(name, "TXT") if value.lower().startswith("v=tlsrpt")]
    if not texts:
        yield passed(
            "tls-rpt.record", f"{domain} asks for no reports about TLS, which nobody asks for", domain
        )
        return
    found = _RPT.fullmatch(texts[0])
    if len(texts) > 1 or found is None:
        seen = f"{name} has {len(texts)} records" if len(texts) > 1 else f'{name} has "{short(texts[0])}"'
        advice = f'Publish one record there, as "v=TLSRPTv1; rua=mailto:ADDRESS@{domain}"'
        yield warned("tls-rpt.record", f"{seen}, so that nobody reports anything", advice, domain)
        return
    faults = [fault for uri in found[1].split(",") if (fault := _report_fault(uri.strip(), dns))]
    for fault in faults:
        advice = "Write rua=mailto:ADDRESS with an address that takes mail, or an https: address"
        yield warned("tls-rpt.record", fault, advice, domain)
    if not faults:
        yield passed("tls-rpt.record", f"reports about TLS go to {short(found[1])}", domain)


def _report_fault(uri: str, dns: Dns) -> str:
    if uri.lower().startswith("https://"):
        return ""
    address = _MAILTO.fullmatch(uri)
    if address is None:
        return f'"{short(uri)}" is no address to report to'
    place = address[1].lower()
    return "" if mx.takes_mail(place, dns) else f"{place}, where the reports about TLS go, takes no mail"
