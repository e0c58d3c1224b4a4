"""The domain's zone: it exists (row 17), and its name servers know it and agree (RFC 1034 4.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Means
from todoku.check.runner import Step
from todoku.dns import diagnosis
from todoku.dns.lookups import NotFound, Status

_ADVICE = {
    "lame": "Correct the name servers at the registrar, or have that server serve the zone",
    "silent": "See why it does not answer, or remove it from the zone's name servers at the registrar",
    "split": "Wait for the change to reach all of them; if it stays so, put their zone transfers right",
    "dnssec": "Have the zone signed anew, or its DS record removed at the registrar",
    "doubled": "Remove the doubled record, and enter the name without the zone at its end",
    "cname-beside": "Remove the CNAME, or what stands beside it",
}
_WHAT_TO_DO = re.compile(
    r"(?:: |\. )(?=correct |Wait |Until |Enter |remove |Remove )"
)  # what of a text says what to do
_STOPS_MAIL = frozenset({"dnssec", "cname-beside"})


def steps(domain: str, means: Means) -> list[Step]:
    return [
        Step("dns.exists", domain, lambda: exists(domain, means)),
        Step("dns.delegation", domain, lambda: delegation(domain, means)),
    ]


def exists(domain: str, means: Means) -> Iterator[Finding]:
    """Whether there is such a name, with a SOA record at it or above: Yahoo asks for that."""
    answer = means.dns.ask(domain, "SOA")
    if answer.status is Status.NO_NAME:
        advice = "Register the domain, or correct its name; mail in its name is refused until it is there"
        yield failed("dns.exists", f"there is no {domain} in the DNS", advice, domain)
        return
    where = domain if answer.values and answer.cname is None else answer.zone or "above"
    yield passed("dns.exists", f"{domain} exists; SOA of {where}", domain)


def delegation(domain: str, means: Means) -> Iterator[Finding]:
    """What is wrong with the zone's servers, asked one by one."""
    lookups = means.dns.lookups
    try:
        zone = lookups.zone_of(domain)
    except NotFound as problem:
        answer = lookups.resolve(domain, "SOA")
        if answer.usable:
            advice = "Correct the name servers at the registrar"
            yield failed("dns.delegation", str(problem), advice, domain)
        else:
            yield unknown(
                "dns.delegation",
                str(problem),
                "Look again; if it stays so, its servers do not answer",
                domain,
            )
        return
    view = diagnosis.examine(lookups, domain, "MX", lookups.resolve(domain, "MX").values)
    for trouble in view.troubles:
        dead = trouble.kind in ("lame", "silent") and not any(answer.usable for answer in view.answers)
        tell = failed if dead or trouble.kind in _STOPS_MAIL else warned
        yield tell("dns.delegation", _WHAT_TO_DO.split(trouble.text)[0], _ADVICE[trouble.kind], domain)
    if not view.troubles:
        names = ", ".join(server.name for server in zone.servers)
        yield passed("dns.delegation", f"{zone.name} is served by {names}, which agree", domain)
