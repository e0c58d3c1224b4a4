"""What the rehearsal's DNS says: every zone of its internet, from the root down, out of an InternetPlan.

Pure functions. Names under Oracle's domains have the shapes that Email Delivery uses: SPF includes by region
group (Oracle's SPF page), the DKIM CNAME target SELECTOR.DOMAIN.dkim.CODE.oracleemaildelivery.com and the
return path CODE.rp.oracleemaildelivery.com (delivered mail in public archives). Everything that is not listed
here does not exist: the root zone says NXDOMAIN at once, so that no look-up ever waits for a timeout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from . import plan as world
from .pki import dkim_txt
from .plan import InternetPlan, SeededDomain

NAME_SERVER = "a.root-servers.net"  # the one name server of all zones, at plan.DNS
DELIVERY_ZONE = "oracleemaildelivery.com"
CLOUD_ZONE = "oraclecloud.com"
_WORLDS_OWN = (
    *(world.RECEIVER_DOMAIN, world.OUTSIDE_DOMAIN, world.AUTHORITY_DOMAIN),
    *(DELIVERY_ZONE, CLOUD_ZONE, "root-servers.net"),
)

_TTL = 300
_LONGEST_NAME = 253  # RFC 1035 3.1: 255 octets on the wire
_LONGEST_STRING = 255  # RFC 1035 3.3
_RETURN_PATHS = {  # Oracle's SPF page: one include for each group of regions
    "americas": f"rp.{DELIVERY_ZONE}",
    "asia-pacific": f"ap.rp.{DELIVERY_ZONE}",
    "europe": f"eu.rp.{DELIVERY_ZONE}",
}
_GROUPS = {
    "ap": "asia-pacific",
    "ca": "americas",
    "eu": "europe",
    "mx": "americas",
    "sa": "americas",
    "uk": "europe",
    "us": "americas",
}

Address = IPv4Address | IPv6Address


class NameTakenError(ValueError):
    """A name or an address of our side is one that the simulated internet needs for somebody else."""


@dataclass(frozen=True, slots=True)
class Record:
    """One DNS record. Names are absolute, without the final dot; a TXT value is the text itself, unquoted."""

    name: str
    type: str
    value: str  # as in a zone file, but host names in it without the final dot


def zones(plan: InternetPlan) -> dict[str, str]:
    """Zone name ("." for the root, otherwise without the final dot) -> zone file text, of the whole internet.

    Raises NameTakenError when our side and the simulated one claim the same name or address.
    """
    by_zone = records(plan)
    return {zone: render(zone, content) for zone, content in by_zone.items()}


def records(plan: InternetPlan) -> dict[str, tuple[Record, ...]]:
    """Zone name -> its records, delegations included; SOA and NS of the zone itself are added by `render`."""
    _refuse_collisions(plan)
    everything = [
        Record(NAME_SERVER, "A", str(world.DNS)),
        *_server(plan),
        *(record for domain in plan.domains for record in _our_domain(domain, plan)),
        *_delivery(plan),
        *_cloud(plan),
        *_receiver(),
        *_outside(plan),
        Record(world.AUTHORITY_HOST, "A", str(world.AUTHORITY)),
        *_reverse(plan),
    ]
    names = _zone_names(plan, everything)
    placed: dict[str, dict[Record, None]] = {name: {} for name in names}
    for record in everything:
        placed[_zone_of(record.name, names)][record] = None  # a dict: in order, and nothing twice
    for name in names:
        if name != ".":
            parent = _zone_of(name.partition(".")[2], names)
            placed[parent][Record(name, "NS", NAME_SERVER)] = None
    return {name: tuple(content) for name, content in placed.items()}


def render(zone: str, content: Sequence[Record], serial: int = 1) -> str:
    """The text of a zone file: SOA and NS of `zone`, then `content`. A TXT value is split as needed."""
    origin = "." if zone == "." else f"{zone}."
    hostmaster = "hostmaster." if zone == "." else f"hostmaster.{zone}."
    lines = [
        f"$TTL {_TTL}",
        f"{origin} SOA {NAME_SERVER}. {hostmaster} {serial} 3600 600 86400 {_TTL}",
        f"{origin} NS {NAME_SERVER}.",
        *(f"{record.name}. {record.type} {_value(record)}" for record in content),
    ]
    return "\n".join(lines) + "\n"


def spf_for(region: str) -> str:
    """The SPF record that Oracle's SPF page gives for `region`; all three includes if it has no group."""
    return f"v=spf1 {' '.join(f'include:{name}' for name in _return_paths(region))} ~all"


# Our side


def _server(plan: InternetPlan) -> Iterable[Record]:
    if any(_within(plan.hostname, zone) for zone in plan.empty_zones):
        return []  # it is to be published like everything else
    return [_address(plan.hostname, address) for address in plan.addresses]


def _our_domain(domain: SeededDomain, plan: InternetPlan) -> Iterable[Record]:
    selector = f"{domain.selector}._domainkey.{domain.name}"
    target = f"{domain.selector}.{domain.name}.dkim.{plan.region_code}.{DELIVERY_ZONE}"
    public_key = dkim_txt(domain.dkim_private_key)
    yield Record(domain.name, "MX", f"10 {plan.hostname}")
    yield Record(domain.name, "TXT", spf_for(plan.region))
    yield Record(f"_dmarc.{domain.name}", "TXT", domain.dmarc)
    if len(target) <= _LONGEST_NAME:
        yield Record(selector, "CNAME", target)
        yield Record(target, "TXT", public_key)
    else:  # the SDK's description of Dkim: the TXT value is for where the CNAME would be too long
        yield Record(selector, "TXT", public_key)


# The relay and its cloud


def _delivery(plan: InternetPlan) -> Iterable[Record]:
    ours = _return_paths(plan.region)
    for name in _RETURN_PATHS.values():
        # Only the groups that this region sends from know its address: a wrong include must not pass.
        sends = f"ip4:{world.RELAY_OUTGOING} " if name in ours else ""
        yield Record(name, "TXT", f"v=spf1 {sends}~all")
    yield Record(plan.return_path_domain, "MX", f"10 {_bounce_host(plan)}")
    yield Record(plan.return_path_domain, "TXT", spf_for(plan.region))
    yield Record(
        f"{plan.regional_selector}._domainkey.{plan.return_path_domain}",
        "TXT",
        dkim_txt(plan.regional_dkim_private_key),
    )
    yield Record(plan.relay_outgoing_hostname, "A", str(world.RELAY_OUTGOING))


def _cloud(plan: InternetPlan) -> Iterable[Record]:
    yield Record(plan.relay_hostname, "A", str(world.RELAY_SMTP))
    yield Record(_bounce_host(plan), "A", str(world.RELAY_SMTP))
    yield Record(f"*.identity.{CLOUD_ZONE}", "A", str(world.CLOUD_REST))  # identity domains
    for region in plan.cloud_regions:
        services = f"{region}.oci.{CLOUD_ZONE}"
        # A name below "email." ends the reach of "*.REGION.oci" there (RFC 4592 3.3.1): it needs a wildcard too.
        for name in (f"email.{services}", services, f"{region}.{CLOUD_ZONE}"):
            yield Record(f"*.{name}", "A", str(world.CLOUD_REST))


def _bounce_host(plan: InternetPlan) -> str:
    """Where returned mail goes: the MX that Oracle's pages give for a return path of one's own."""
    return f"bmta.email.{plan.region}.oci.{CLOUD_ZONE}"


def _return_paths(region: str) -> tuple[str, ...]:
    group = _GROUPS.get(region.partition("-")[0])
    return (_RETURN_PATHS[group],) if group else tuple(_RETURN_PATHS.values())


# The receiving provider and the outside sender


def _receiver() -> Iterable[Record]:
    return _provider(world.RECEIVER_DOMAIN, world.RECEIVER_HOST, world.RECEIVER, world.RECEIVER6, "none")


def _outside(plan: InternetPlan) -> Iterable[Record]:
    yield from _provider(world.OUTSIDE_DOMAIN, world.OUTSIDE_HOST, world.OUTSIDE, world.OUTSIDE6, "reject")
    name = f"{plan.outside_selector}._domainkey.{world.OUTSIDE_DOMAIN}"
    yield Record(name, "TXT", dkim_txt(plan.outside_dkim_private_key))


def _provider(domain: str, host: str, ip4: IPv4Address, ip6: IPv6Address, policy: str) -> Iterable[Record]:
    return [
        Record(domain, "MX", f"10 {host}"),
        _address(host, ip4),
        _address(host, ip6),
        Record(domain, "TXT", f"v=spf1 ip4:{ip4} ip6:{ip6} -all"),
        Record(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p={policy}"),
    ]


# Names of addresses


def _reverse(plan: InternetPlan) -> Iterable[Record]:
    names: list[tuple[Address, str]] = [
        *((address, plan.hostname) for address in plan.addresses),
        (world.RELAY_SMTP, plan.relay_hostname),
        (world.RELAY_OUTGOING, plan.relay_outgoing_hostname),
        (world.RECEIVER, world.RECEIVER_HOST),
        (world.RECEIVER6, world.RECEIVER_HOST),
        (world.OUTSIDE, world.OUTSIDE_HOST),
        (world.OUTSIDE6, world.OUTSIDE_HOST),
    ]
    return [Record(address.reverse_pointer, "PTR", name) for address, name in names]


def _reverse_zone(pointer: str) -> str:
    """The zone that an address' PTR record lies in: a /24 of IPv4, a /32 of IPv6."""
    labels = pointer.split(".")
    return ".".join(labels[1:] if labels[-2] == "in-addr" else labels[24:])


# Zones


def _zone_names(plan: InternetPlan, everything: Iterable[Record]) -> list[str]:
    """The root, then every zone, each once. A host that lies in none of them gets a zone of its own."""
    ours = (*plan.empty_zones, *(domain.name for domain in plan.domains))
    names = [".", *ours, *_WORLDS_OWN[:-1]]
    names += [_reverse_zone(record.name) for record in everything if record.type == "PTR"]
    for host in (plan.hostname, plan.relay_hostname):
        if _zone_of(host, names) == ".":
            names.append(host)
    return list(dict.fromkeys(names))


def _zone_of(name: str, names: Iterable[str]) -> str:
    """The deepest of the zones `names` that `name` lies in."""
    return max(
        (zone for zone in names if _within(name, zone)), key=lambda zone: (zone != ".", zone.count("."))
    )


def _within(name: str, zone: str) -> bool:
    return zone == "." or name == zone or name.endswith(f".{zone}")


def _refuse_collisions(plan: InternetPlan) -> None:
    for name in (plan.hostname, *plan.empty_zones, *(domain.name for domain in plan.domains)):
        for taken in _WORLDS_OWN:
            if _within(name, taken):
                raise NameTakenError(
                    f"{name} cannot be rehearsed: {taken} is somebody else in the rehearsal's internet; "
                    f"give the domain or host another name in the settings that you rehearse"
                )
    others = {
        world.RELAY_SMTP,
        world.CLOUD_REST,
        world.RELAY_OUTGOING,
        world.DNS,
        world.RECEIVER,
        world.RECEIVER6,
        world.OUTSIDE,
        world.OUTSIDE6,
        world.AUTHORITY,
    }
    for address in plan.addresses:
        if address in others:
            raise NameTakenError(
                f"{address} cannot be our server's address: it is somebody else's in the rehearsal; "
                f"set `addresses` to the server's real ones, or to {world.SERVER} and {world.SERVER6}"
            )


# Zone file syntax


def _address(name: str, address: Address) -> Record:
    return Record(name, "A" if address.version == 4 else "AAAA", str(address))


def _value(record: Record) -> str:
    if record.type == "TXT":
        return _quoted(record.value)
    if record.type in ("MX", "NS", "CNAME", "PTR"):
        return f"{record.value}."
    return record.value


def _quoted(text: str) -> str:
    """Character strings of at most 255 octets, in quotes, with what is special escaped (RFC 1035 5.1)."""
    octets = text.encode("utf-8")
    parts = [octets[at : at + _LONGEST_STRING] for at in range(0, len(octets), _LONGEST_STRING)] or [b""]
    return " ".join(f'"{"".join(_escaped(octet) for octet in part)}"' for part in parts)


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return f"\\{chr(octet)}"
    return chr(octet) if 0x20 <= octet < 0x7F else f"\\{octet:03d}"
