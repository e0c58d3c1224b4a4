"""The custom return path: its record is the one that Oracle asks for, SPF passes there, and bounces find their way.

Without one, Oracle's own name is in the envelope; SPF passes for that name then, and counts for nothing in DMARC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from todoku.check import spf
from todoku.check.finding import Finding, failed, passed, unknown
from todoku.check.means import Dns, Means
from todoku.check.runner import Step
from todoku.cloud.client import Cloud, newest
from todoku.cloud.values import ACTIVE, FAILED, ReturnPath
from todoku.gate.authentication import Envelope, check_spf


def steps(domain: str, means: Means, relay: Sequence[str], *, wanted: bool) -> list[Step]:
    """`wanted`: whether the settings ask for one. Nothing without the cloud."""
    cloud = means.cloud
    if cloud is None:
        return []
    return [Step("return-path.record", domain, lambda: look(domain, cloud, means.dns, relay, wanted=wanted))]


def look(domain: str, cloud: Cloud, dns: Dns, relay: Sequence[str], *, wanted: bool) -> Iterator[Finding]:
    email_domain = cloud.email_domain(domain)
    paths = cloud.return_paths(email_domain) if email_domain is not None else []
    path = newest(paths, lambda each: each.created)
    if path is None and not wanted:
        yield passed(
            "return-path.record", "none, as in the settings; Oracle's own name is in the envelope", domain
        )
        return
    if path is None:
        yield failed(
            "return-path.record", f"Oracle has no return path for {domain}", "Run `todoku apply`", domain
        )
        return
    yield _record(domain, path, dns)
    yield from _spf(domain, path.name.lower(), dns, relay)
    records = [value.partition(" ")[2] for value in dns.values(path.name, "MX")]
    if records and not {".", ""} & set(records):
        yield passed("return-path.bounces", f"bounces to {path.name} go to {', '.join(records)}", domain)
    else:
        seen = f"{path.name} has no MX record, so that bounces have nowhere to go"
        yield failed("return-path.bounces", seen, _publish(path), domain)


def _publish(path: ReturnPath) -> str:
    return f"Publish {path.record_name or path.name} CNAME {path.cname}, and nothing else at that name"


def _record(domain: str, path: ReturnPath, dns: Dns) -> Finding:
    name, target = path.record_name or path.name, path.cname.rstrip(".").lower()
    seen = dns.values(name, "CNAME")
    if target and seen != (target,):
        shown = f"is a CNAME to {', '.join(seen)}, not to {target}" if seen else f"is no CNAME to {target}"
        return failed("return-path.record", f"{name} {shown}", _publish(path), domain)
    if path.state == FAILED:
        advice = "Run `todoku apply`, which makes it anew; its record has to be seen within 72 hours"
        return failed(
            "return-path.record",
            f"Oracle has given up on {path.name}: {path.details or FAILED}",
            advice,
            domain,
        )
    if path.state != ACTIVE:
        advice = "Wait, or run `todoku apply --wait 3600`; the record has to be seen within 72 hours"
        return failed(
            "return-path.record", f"Oracle does not use {path.name} yet: {path.state}", advice, domain
        )
    return passed("return-path.record", f"{name} is a CNAME to {target}, and Oracle uses it", domain)


def _spf(domain: str, name: str, dns: Dns, relay: Sequence[str]) -> Iterator[Finding]:
    address = spf.an_address(relay, dns)
    if address is None:
        return
    result = check_spf(Envelope(address, name, f"bounce@{name}"), dns.for_gate).result
    if result == "pass":
        yield passed("return-path.spf", f"SPF passes for {name}", domain)
    elif result == "temperror":
        seen = f"whether SPF passes for {name} is not known: the DNS gave no answer"
        yield unknown("return-path.spf", seen, "Look again; if it stays so, see `todoku check dns`", domain)
    else:
        seen = f"for mail from the relay ({address}) with the envelope sender @{name} SPF says {result}"
        yield failed(
            "return-path.spf", seen, "Leave at that name only the CNAME that Oracle asks for", domain
        )
