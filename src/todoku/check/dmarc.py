"""DMARC (rows 3 and 4): the record that applies, found by walking up the tree, what it asks for, whether reports
arrive, and whether From is aligned in practice (RFC 9989, RFC 9990).

The walk is the gate's own (`todoku.gate.dmarc`), the reading of a record that of the DNS room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from todoku.check import mx
from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Dns, Means
from todoku.check.runner import Step
from todoku.cloud.client import Cloud
from todoku.cloud.dkim import look_at
from todoku.cloud.values import ACTIVE
from todoku.dns import dmarc, text
from todoku.dns.problems import DmarcProblem
from todoku.gate.dmarc import Record, Walk
from todoku.settings.models import Domain

_GONE = ("pct", "rf", "ri")  # RFC 9989: historic
_POLICIES = ("none", "quarantine", "reject")
_WANTED = "v=DMARC1; p=none"
_MAILTO = re.compile(r"mailto:([^!,\s]{1,254}@([A-Za-z0-9.-]{1,253}))(?:![0-9]+[kmgt]?)?", re.IGNORECASE)


def steps(domain: str, means: Means, ours: Domain | None = None) -> list[Step]:
    """`ours`: the domain's settings, where it is one of ours."""
    found = [Step("dmarc.record", domain, lambda: look(domain, means.dns, ours))]
    if ours is not None:
        found.append(Step("dmarc.alignment", domain, lambda: alignment(domain, means)))
    return found


def look(domain: str, dns: Dns, ours: Domain | None = None) -> Iterator[Finding]:
    """The record that applies to mail in the name of `domain`."""
    name = f"_dmarc.{domain}"
    texts = dns.values(name, "TXT")
    own = [value for value in texts if dmarc.is_dmarc(value)]
    wanted = f'"{_WANTED}{f"; rua=mailto:{ours.dmarc.reports}" if ours and ours.dmarc.reports else ""}"'
    if len(own) > 1:
        seen = f"{name} has {len(own)} DMARC records, so that none of them counts"
        yield failed("dmarc.record", seen, "Leave one of them", domain)
        return
    walk = Walk(domain, dns.for_gate)
    applies = walk.policy
    if not own and (applies is None or applies.domain == domain):
        yield _none(domain, name, texts, wanted)
        return
    if not own and applies is not None:
        yield passed("dmarc.record", f"the record of {applies.domain} applies", domain)
        own = [value for value in dns.values(f"_dmarc.{applies.domain}", "TXT") if dmarc.is_dmarc(value)]
    else:
        yield passed("dmarc.record", own[0], domain)
    try:
        record = dmarc.parse(own[0])
    except DmarcProblem as problem:
        yield failed("dmarc.syntax", str(problem), "Correct it where the record is published", domain)
        return
    faults = list(_syntax(domain, record, used=applies is not None))
    yield from faults or [passed("dmarc.syntax", f"tags: {len(record.tags) + 1}", domain)]
    if applies is not None:
        yield _policy(domain, applies, ours)
    yield from _reports(domain, applies.domain if applies else domain, record, dns, ours)


def _none(domain: str, name: str, texts: tuple[str, ...], wanted: str) -> Finding:
    advice = f"Publish {wanted} as TXT at {name}"
    near = next((value for value in texts if "dmarc" in value.lower()), None)
    if near is not None:
        seen = (
            f'{name} has "{near[:100]}", which is no DMARC record: it has to begin with "v=DMARC1;" exactly'
        )
        return failed("dmarc.record", seen, f"{advice} in its place", domain)
    return failed("dmarc.record", f"there is no DMARC record for {domain}", advice, domain)


def _syntax(domain: str, record: dmarc.Record, *, used: bool) -> Iterator[Finding]:
    policy = record.get("p")
    if policy is None or policy.lower() not in _POLICIES:
        told = "there is no p=" if policy is None else f"p={policy} is no policy"
        seen = (
            f"{told}: receivers take it for p=none"
            if used
            else f"{told}, and without rua= the record is ignored"
        )
        yield failed("dmarc.syntax", seen, "Write p=none, p=quarantine or p=reject", domain)
    for tag, allowed in (
        ("sp", _POLICIES),
        ("np", _POLICIES),
        ("adkim", "rs"),
        ("aspf", "rs"),
        ("psd", "ynu"),
        ("t", "yn"),
    ):
        value = record.get(tag)
        if value is not None and value.lower() not in allowed:
            seen = f"{tag}={value} is none of {', '.join(allowed)}, and is ignored"
            yield warned("dmarc.syntax", seen, f"Correct {tag}=, or remove it", domain)
    gone = [tag for tag in _GONE if record.get(tag) is not None]
    if gone:
        told = " and ".join(f"{tag}=" for tag in gone)
        advice = f"Remove {told}" + (" (t=y is what pct=0 was)" if record.get("pct") == "0" else "")
        yield warned("dmarc.syntax", f"{told} mean nothing any more (RFC 9989)", advice, domain)


def _policy(domain: str, applies: Record, ours: Domain | None) -> Finding:
    policy = applies.policy_for(domain, exists=True)
    order = _POLICIES.index(policy)
    if ours is not None and order < _POLICIES.index(ours.dmarc.policy):
        seen = f"the record asks for {policy}, the settings for {ours.dmarc.policy}"
        return warned(
            "dmarc.policy", seen, "Run `todoku apply`, or publish the stricter policy by hand", domain
        )
    if policy == "none" and ours is None:
        seen = f"p=none: nobody is asked to do anything about mail that forges {domain}"
        advice = "Read the reports; when everything that is yours passes, write p=quarantine, then p=reject"
        return warned("dmarc.policy", seen, advice, domain)
    told = " (only reports; this is enough for all of them)" if policy == "none" else ""
    return passed("dmarc.policy", f"mail that fails: {policy}{told}", domain)


def _reports(domain: str, at: str, record: dmarc.Record, dns: Dns, ours: Domain | None) -> Iterator[Finding]:
    rua = record.get("rua")
    if not rua:
        if ours is not None and ours.dmarc.reports is None:
            yield passed("dmarc.reports", "no reports are asked for, as in the settings", domain)
            return
        address = ours.dmarc.reports if ours is not None else f"ADDRESS@{domain}"
        seen = "nobody is asked to report how mail in the domain's name fares"
        yield warned("dmarc.reports", seen, f"Add rua=mailto:{address}", domain)
        return
    faults = [fault for uri in rua.split(",") if (fault := _report_fault(at, uri.strip(), dns))]
    for seen, advice in faults:
        yield warned("dmarc.reports", seen, advice, domain)
    if not faults:
        yield passed("dmarc.reports", f"reports go to {rua}", domain)


def report_addresses(domain: str, dns: Dns) -> list[str]:
    """The addresses to which the record of `domain` itself has reports sent. Raises Unanswered."""
    texts = [value for value in dns.values(f"_dmarc.{domain}", "TXT") if dmarc.is_dmarc(value)]
    try:
        uris = (dmarc.parse(texts[0]).get("rua") or "").split(",") if len(texts) == 1 else []
    except DmarcProblem:
        return []  # `look` tells it
    return [found[1].lower() for uri in uris if (found := _MAILTO.fullmatch(uri.strip()))]


def _report_fault(domain: str, uri: str, dns: Dns) -> tuple[str, str] | None:
    """What is wrong with one address for reports, and what to do; RFC 9990 4 for those outside the domain."""
    found = _MAILTO.fullmatch(uri)
    if found is None:
        return f'"{uri[:80]}" is no address to report to', "Write rua=mailto:ADDRESS"
    place = found[2].lower()
    if not mx.takes_mail(place, dns):
        return f"{place}, where the reports go, takes no mail", "Write an address that does into rua="
    if text.within(place, domain) or text.within(domain, place):
        return None
    if Walk(place, dns.for_gate).organization == Walk(domain, dns.for_gate).organization:
        return None
    name = f"{domain}._report._dmarc.{place}"
    if any(dmarc.is_dmarc(value) for value in dns.values(name, "TXT")):
        return None
    seen = f"{place} has not agreed to take reports about {domain}, so that nobody sends them"
    return seen, f'Have the owner of {place} publish "v=DMARC1" as TXT at {name}'


def alignment(domain: str, means: Means) -> Iterator[Finding]:
    """Practice against publication: with what the relay signs and sends, is From aligned? (RFC 9989 4.4)"""
    if means.cloud is None:
        seen = "without [cloud] in the settings it is not known with which domain the relay signs"
        advice = "Run `todoku check send`, and look at what arrives"
        yield unknown("dmarc.alignment", seen, advice, domain)
        return
    walk = Walk(domain, means.dns.for_gate)
    tags = walk.policy.tags if walk.policy else {}
    aligned = list(_aligned(domain, tags, means.cloud))
    if aligned:
        yield passed("dmarc.alignment", " and ".join(aligned), domain)
        return
    seen = f"neither is there an active DKIM key for {domain}, nor a return path that SPF would align with"
    advice = "Run `todoku apply --wait 3600`: Oracle activates the key when it has found its record"
    yield failed("dmarc.alignment", seen, advice, domain)


def _aligned(domain: str, tags: dict[str, str], cloud: Cloud) -> Iterator[str]:
    seen = look_at(domain, cloud)
    key = seen.keys.current
    if key is not None and key.state == ACTIVE:
        yield f"DKIM signs with d={domain}"
    email_domain = cloud.email_domain(domain)
    if email_domain is None or tags.get("aspf") == "s":
        return  # a return path is a name below the domain, which strict SPF alignment does not count
    for path in cloud.return_paths(email_domain):
        if path.state == ACTIVE and text.within(path.name.lower(), domain):
            yield f"SPF passes for {path.name.lower()}"
