"""Where mail for a domain goes (RFC 5321 5.1, RFC 7505, RFC 2181 10.3)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from todoku.check.finding import Finding, Verdict, failed, passed, warned
from todoku.check.means import Dns, Means
from todoku.check.runner import Step
from todoku.settings.models import PRIVATE_NETWORKS


def steps(domain: str, means: Means, ours: str = "") -> list[Step]:
    """`ours`: the name of our mail host, where the domain is one of ours."""
    return [Step("mx.record", domain, lambda: look(domain, means.dns, ours))]


def look(domain: str, dns: Dns, ours: str = "") -> Iterator[Finding]:
    records = sorted(_parsed(value) for value in dns.values(domain, "MX"))
    hosts = [host for _, host in records]
    wanted = f"Publish {domain} MX 10 {ours or 'THE-NAME-OF-YOUR-MAIL-HOST'}"
    if not records:
        fallback = dns.addresses(domain)
        if not fallback:
            yield failed(
                "mx.record", f"{domain} has neither MX record nor address: nobody can answer", wanted, domain
            )
        else:
            tell = failed if ours else warned
            seen = f"{domain} has no MX record; mail for it goes to its address, {fallback[0]}"
            yield tell("mx.record", seen, wanted, domain)
        return
    if "." in hosts or "" in hosts:
        seen = f"{domain} says that it takes no mail (null MX, RFC 7505)"
        yield failed("mx.record", seen, f"{wanted} in its place, or send from another domain", domain)
        return
    yield from _ours(domain, hosts, ours, wanted)
    for host in dict.fromkeys(hosts):
        yield from _host(domain, host, dns)


def _ours(domain: str, hosts: list[str], ours: str, wanted: str) -> Iterator[Finding]:
    shown = ", ".join(hosts)
    if ours and ours not in hosts:
        yield failed("mx.record", f"mail for {domain} goes to {shown}, not to {ours}", wanted, domain)
    elif ours and set(hosts) != {ours}:
        others = ", ".join(host for host in hosts if host != ours)
        advice = (
            f"Remove {others}, unless it passes all mail on to {ours} and knows which addresses there are"
        )
        yield warned("mx.record", f"mail for {domain} goes to {others} as well", advice, domain)
    else:
        yield passed("mx.record", f"mail for {domain} goes to {shown}", domain)


def _host(domain: str, host: str, dns: Dns) -> Iterator[Finding]:
    if _is_address(host):
        advice = "Publish a name there; an address in an MX record is not looked at (RFC 5321 5.1)"
        yield failed(
            "mx.host",
            f"the MX record of {domain} has the address {host} in the place of a name",
            advice,
            domain,
        )
        return
    answer = dns.ask(host, "A")
    addresses = (*answer.values, *dns.values(host, "AAAA"))
    before = Verdict.PASS
    if not addresses:
        advice = f"Publish the address of {host}, or remove it from the MX records"
        yield failed("mx.host", f"{host} has no address", advice, domain)
        return
    if answer.cname is not None:
        advice = f"Give {host} addresses of its own: some servers do not deliver to an alias (RFC 2181 10.3)"
        yield warned("mx.host", f"{host} is a CNAME to {answer.cname}", advice, domain)
        before = Verdict.WARN
    if private := [a for a in addresses if not is_public(a)]:
        advice = f"Publish the address at which the world reaches {host}"
        yield failed(
            "mx.host",
            f"{host} has the address {', '.join(private)}, which the world cannot reach",
            advice,
            domain,
        )
    elif before is Verdict.PASS:
        yield passed("mx.host", f"{host} has the address {', '.join(addresses)}", domain)


def hosts(domain: str, dns: Dns) -> list[str]:
    """Where mail for `domain` goes, the preferred first; nobody for a null MX. Raises Unanswered."""
    records = sorted(_parsed(value) for value in dns.values(domain, "MX"))
    named = [host.lower().rstrip(".") for _, host in records]
    return [host for host in named if host] or ([domain] if not records and dns.addresses(domain) else [])


def takes_mail(domain: str, dns: Dns) -> bool:
    """Whether mail can go there at all: by MX, or by an address in its place. Raises Unanswered."""
    return bool(hosts(domain, dns)) and not any(
        value.partition(" ")[2] in (".", "") for value in dns.values(domain, "MX")
    )


def _parsed(value: str) -> tuple[int, str]:
    preference, _, host = value.partition(" ")
    return int(preference) if preference.isdigit() else 65_535, host.strip()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Documentation ranges count as public: nobody publishes them but to try things out."""
    found = ip_address(address)
    return not (
        found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast
    ) and not (
        found.is_private
        and any(found in network for network in PRIVATE_NETWORKS if network.version == found.version)
    )
