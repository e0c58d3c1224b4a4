"""SPF (rows 1 to 4): one record that can be read, that costs receivers no more than they may spend, and that lets the
relay send (RFC 7208; Oracle's page on SPF).

Reading and counting are those with which Todoku publishes (`todoku.dns`). Whether the relay passes is asked of pyspf,
for an address that Oracle publishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Dns, Means
from todoku.check.runner import Step
from todoku.dns import spf, spf_cost
from todoku.dns.problems import SpfProblem
from todoku.gate.authentication import Envelope, check_spf
from todoku.settings import Settings
from todoku.settings.regions import REGIONS

_WHOLE = {4: 8, 6: 16}  # a network as large as that is not one sender's
_WIDE = {4: 16, 6: 32}
# A length with a leading zero; a macro that is for the text of an explanation only.
_STRICTER = re.compile(r"/0[0-9]|%\{[crt]", re.IGNORECASE)
ORACLE = ("rp.oracleemaildelivery.com", "ap.rp.oracleemaildelivery.com", "eu.rp.oracleemaildelivery.com")


def relay_includes(settings: Settings) -> tuple[str, ...]:
    """What the settings' relay needs; empty where Oracle does not publish it and the settings do not say it."""
    return settings.relay.spf_include or REGIONS[settings.relay.region].spf_include


def steps(domain: str, means: Means, relay: Sequence[str] = ()) -> list[Step]:
    """`relay`: the names that the record has to include, where the domain is one of ours."""
    return [Step("spf.record", domain, lambda: look(domain, means.dns, relay))]


def look(domain: str, dns: Dns, relay: Sequence[str] = ()) -> Iterator[Finding]:
    texts = dns.values(domain, "TXT")
    records = [text for text in texts if spf.is_spf(text)]
    if len(records) != 1:
        yield _not_one(domain, records, texts, relay)
        return
    yield passed("spf.record", records[0], domain)
    try:
        record = spf.parse(records[0])
    except SpfProblem as problem:
        yield failed("spf.syntax", str(problem), "Correct that term where the record is published", domain)
        return
    if wrong := next(filter(_STRICTER.search, (term.text for term in record.terms)), None):
        seen = f'the SPF record has the term "{wrong}", which receivers refuse (RFC 7208 5.6, 7.2)'
        yield failed("spf.syntax", seen, "Correct that term where the record is published", domain)
        return
    yield from _syntax(domain, record)
    cost = spf_cost.count(records[0], domain, dns.values)
    yield from _cost(domain, cost)
    yield from _too_much(domain, record)
    if relay:
        yield from _relay(domain, cost, dns, relay)


def _not_one(domain: str, records: Sequence[str], texts: Sequence[str], relay: Sequence[str]) -> Finding:
    if records:
        listed = " and ".join(f'"{record}"' for record in records)
        advice = "Make one record of them: the terms of all, and one ~all at the end"
        return failed("spf.record", f"{domain} has {len(records)} SPF records: {listed}", advice, domain)
    terms = " ".join(f"include:{name}" for name in relay) or "include:WHOEVER-SENDS-FOR-YOU"
    wanted = f'Publish "v=spf1 {terms} ~all" as TXT at {domain}'
    near = next(
        (text for text in texts if "spf1" in text.lower()[:20] or text.lower().startswith("v=spf")), None
    )
    if near is not None:
        seen = f'{domain} has "{near[:100]}", which is no SPF record: it has to begin with "v=spf1 "'
        return failed("spf.record", seen, f"{wanted} in its place", domain)
    return failed("spf.record", f"{domain} has no SPF record", wanted, domain)


def _syntax(domain: str, record: spf.Record) -> Iterator[Finding]:
    names = [term.name for term in record.terms]
    behind = names[names.index("all") + 1 :] if "all" in names else []
    lost = (
        [term.text for term in record.terms[len(names) - len(behind) :] if not term.modifier]
        if behind
        else []
    )
    if lost:
        advice = "Move them before all: nobody looks at what comes after it (RFC 7208 5.1)"
        yield warned("spf.syntax", f"{', '.join(lost)} stands behind all", advice, domain)
    elif "all" in names and "redirect" in names:
        advice = "Remove redirect= or all: beside all, redirect= is ignored (RFC 7208 6.1)"
        yield warned("spf.syntax", "there are both all and redirect=", advice, domain)
    else:
        yield passed("spf.syntax", f"terms: {len(names)}", domain)
    if "ptr" in names:
        advice = "Remove ptr: it is slow, and some receivers ignore it (RFC 7208 5.5)"
        yield warned("spf.ptr", "the record asks for reverse names (ptr)", advice, domain)


def _cost(domain: str, cost: spf_cost.Cost) -> Iterator[Finding]:
    listed = "; ".join(
        f"{term}: {lookups}" + (f", {void} in vain" if void else "")
        for term, (lookups, void) in sorted(cost.by_term().items(), key=lambda one: -one[1][0])
    )
    number = (
        f"{cost.lookups} of {spf_cost.MOST_LOOKUPS} look-ups, {cost.void} of {spf_cost.MOST_VOID} in vain"
    )
    number += f" ({listed})" if listed else ""
    for fault in cost.faults:
        yield failed("spf.targets", fault, "Remove that term, or correct the record that it leads to", domain)
    if not cost.faults:
        yield passed("spf.targets", "everything that the record refers to is there", domain)
    if cost.too_much:
        advice = "Remove what does not send any more, the most expensive first; ip4: and ip6: cost nothing"
        yield failed("spf.lookups", number, advice, domain)
    elif cost.lookups == spf_cost.MOST_LOOKUPS:
        advice = "Make room: one more look-up, which an included provider may add any day, breaks the record"
        yield warned("spf.lookups", number, advice, domain)
    else:
        yield passed("spf.lookups", number, domain)


def _too_much(domain: str, record: spf.Record) -> Iterator[Finding]:
    every = next((term for term in record.terms if term.name == "all"), None)
    wide = [
        (term, _prefix(term))
        for term in record.terms
        if term.name in ("ip4", "ip6") and term.qualifier == "+"
    ]
    if every is not None and every.qualifier == "+":
        yield failed(
            "spf.all",
            f"{every.text} lets everybody send in the name of {domain}",
            "Write ~all in its place",
            domain,
        )
    elif whole := [term.text for term, (family, length) in wide if length < _WHOLE[family]]:
        advice = "Write the addresses that really send in their place"
        yield failed(
            "spf.all", f"{', '.join(whole)} lets half the world send in the name of {domain}", advice, domain
        )
    elif large := [term.text for term, (family, length) in wide if length < _WIDE[family]]:
        advice = "Write the addresses that really send in their place"
        yield warned(
            "spf.all", f"{', '.join(large)} lets very many send in the name of {domain}", advice, domain
        )
    elif every is None and record.redirect is None:
        seen = "the record has neither all nor redirect=, so it says nothing about everybody else"
        yield warned("spf.all", seen, "Write ~all at the end", domain)
    elif every is not None and every.qualifier == "?":
        yield warned("spf.all", "?all says nothing about everybody else", "Write ~all in its place", domain)
    else:
        yield passed("spf.all", every.text if every else f"redirect={record.redirect}", domain)


def _relay(domain: str, cost: spf_cost.Cost, dns: Dns, relay: Sequence[str]) -> Iterator[Finding]:
    reached = {term.lower().removesuffix(".") for charge in cost.charges for term in charge.path}
    missing = [name for name in relay if not _includes(reached, name)]
    if missing:
        other = [name for name in ORACLE if name not in relay and _includes(reached, name)]
        told = f"; include:{other[0]} is for other regions of Oracle's" if other else ""
        terms = " ".join(f"include:{name}" for name in missing)
        advice = f"Add {terms} before all" + (f", and remove include:{other[0]}" if other else "")
        yield failed("spf.relay", f"{', '.join(missing)} is not included{told}", advice, domain)
        return
    address = an_address(relay, dns)
    if address is None:
        yield passed("spf.relay", f"{', '.join(relay)} is included", domain)
        return
    result = check_spf(Envelope(address, domain, f"postmaster@{domain}"), dns.for_gate).result
    if result == "pass":
        yield passed("spf.relay", f"mail from the relay ({address}) passes", domain)
    elif result == "temperror":
        seen = f"for the relay ({address}) the DNS gave no answer"
        yield unknown("spf.relay", seen, "Look again; if it stays so, see `todoku check dns`", domain)
    else:
        advice = "Look for a term before the relay's include that is matched first, or an error in the record"
        yield failed("spf.relay", f"for mail from the relay ({address}) SPF says {result}", advice, domain)


def _includes(reached: set[str], name: str) -> bool:
    return bool(reached & {f"include:{name}", f"+include:{name}"})


def an_address(relay: Sequence[str], dns: Dns) -> str | None:
    """An IPv4 address that Oracle's own record has, to try the record with."""
    for name in relay:
        for text in dns.values(name, "TXT"):
            try:
                terms = spf.parse(text).terms if spf.is_spf(text) else ()
            except SpfProblem:
                terms = ()
            for term in terms:
                if term.name == "ip4" and term.qualifier == "+":
                    return str(ip_network(term.value, strict=False)[0])
    return None


def _prefix(term: spf.Term) -> tuple[int, int]:
    network = ip_network(term.value, strict=False)
    return network.version, network.prefixlen
