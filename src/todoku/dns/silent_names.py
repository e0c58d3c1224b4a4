"""Names of the settings that send nothing, and at which others may have published: the host of bulk mail's pages.

"v=spf1 -all" there keeps others from sending in their name (RFC 7208 10.1.2). But such a name is served by somebody's
web server, and a record can break it: beside a CNAME there is no other record, and a name with a record of its own gets
nothing of a wildcard any more (RFC 4592 2.2.1). So it gets the record only where it does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from todoku.dns import spf, text
from todoku.dns.client import Names
from todoku.dns.publisher import Found
from todoku.settings import Settings


def names(settings: Settings) -> list[str]:
    """The names within our domains that serve pages and nothing else, beside the mail host's."""
    if settings.campaign is None:
        return []
    host = (urlsplit(settings.campaign.url).hostname or "").rstrip(".")
    ours = any(text.within(host, domain) for domain in settings.own_domains)
    # "_domainkey", "_dmarc": names of records, not of hosts.
    of_records = any(label.startswith("_") for label in host.split("."))
    if not ours or of_records or host == settings.hostname or host in settings.own_domains:
        return []
    return [host]


def unless_left_alone(client: Names, zone: str, name: str, type_: str) -> Found | str:
    """What `name` has of `type_` (TXT), or in words why it gets no record. Raises PublisherFailed."""
    delegated = client.delegated(name)
    served = zone if delegated is None else delegated.name
    if served != zone or not any(text.within(domain, zone) for domain in client.domains):
        return f"{name} is in the zone {served}, which is not that of the mail domain: whoever has it decides"
    found = client.publisher.look(zone, name, type_)
    return _harm(client, zone, name, found) or found


def _harm(client: Names, zone: str, name: str, found: Found) -> str | None:
    if any(spf.is_spf(value) for value in found.values):
        return None  # one that is there is enough
    if "CNAME" in found.others:
        return f"{name} is a CNAME, and has the SPF record of the name that it leads to"
    if client.publisher.look(zone, name, "MX").values:
        return f"{name} has an MX record: it may send mail, and whoever uses it decides about SPF"
    own = _addresses(client, zone, name)
    if not own:
        return f"{name} has no address yet, and could become a CNAME: SPF is published as soon as it has one"
    for wildcard in _wildcards(name, zone):
        if _addresses(client, zone, wildcard) == own:
            return (
                f"{name} may have its address from {wildcard}, and would lose it with a record of its own: give it an "
                "address of its own that differs, or enter the SPF record beside one by hand"
            )
    return None


def _addresses(client: Names, zone: str, name: str) -> Sequence[str]:
    return sorted(
        value for type_ in ("A", "AAAA") for value in client.publisher.look(zone, name, type_).values
    )


def _wildcards(name: str, zone: str) -> list[str]:
    above = name
    found = []
    while above != zone and "." in above:
        above = above.partition(".")[2]
        found.append(f"*.{above}")
    return found
