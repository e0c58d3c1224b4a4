"""Namecheap, whose API knows no single records: it takes all hosts of a domain at once and forgets the others.

Lexicon's own way of adding a record drops what the list says about the mail service, which makes Namecheap
forget MX records, sets the list once for each record, and finds the domain by a list of suffixes that it
downloads. Here the list is read, merged and written once, every attribute kept, and nothing is written unless
what was read is the whole list for certain. (Namecheap's documentation of domains.dns.getHosts and setHosts.)

SRV records can be made in Namecheap's console, and its API neither shows nor takes them (DNSControl's notes on
the provider): whoever has some would lose them, so they are looked for in the DNS before anything is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from todoku.dns.publisher import ChangedMeanwhile, Published, PublisherFailed, Replacement
from todoku.dns.text import plain, presentation, relative

T = TypeVar("T")

_NAMESPACE = "{http://api.namecheap.com/xml.response}"
# What getHosts says of a host -> what setHosts calls it. The rest of getHosts' attributes are not taken back.
_ATTRIBUTES = {
    "Name": "HostName",
    "Type": "RecordType",
    "Address": "Address",
    "MXPref": "MXPref",
    "TTL": "TTL",
}
_TYPES = ("A", "AAAA", "ALIAS", "CAA", "CNAME", "MX", "MXE", "NS", "TXT", "URL", "URL301", "FRAME")
_NEEDED = ("Name", "Type", "Address")
# Where people have SRV records: mail programs, calendars, Microsoft 365, telephony, chat, games.
_SRV = (
    *(
        "_autodiscover._tcp",
        "_submission._tcp",
        "_submissions._tcp",
        "_imap._tcp",
        "_imaps._tcp",
        "_pop3s._tcp",
    ),
    *(
        "_caldav._tcp",
        "_caldavs._tcp",
        "_carddav._tcp",
        "_carddavs._tcp",
        "_ldap._tcp",
        "_sip._tcp",
        "_sip._udp",
    ),
    *("_sip._tls", "_sips._tcp", "_sipfederationtls._tcp", "_xmpp-client._tcp", "_xmpp-server._tcp"),
    *("_matrix._tcp", "_matrix-fed._tcp", "_minecraft._tcp", "_stun._udp", "_turn._udp"),
)
_PAUSE = 5.0  # seconds; Namecheap takes 20 requests a minute from one user
_ATTEMPTS = 14

HasRecords = Callable[[str, str], bool]  # name, type -> whether the DNS has such records


def listed(provider: Any, zone: str, sleep: Callable[[float], None] = time.sleep) -> tuple[Published, ...]:
    """All records of the zone. Raises PublisherFailed."""
    _, hosts = _patiently(lambda: _read(provider, zone), sleep)
    return tuple(
        Published(
            zone if host["Name"] in ("", "@") else f"{host['Name'].lower()}.{zone}",
            host["Type"],
            _value(host),
            int(host["TTL"]) if host.get("TTL", "").isdecimal() else 0,
            host["Address"],
            host.get("HostId", ""),
        )
        for host in hosts
    )


def replace(
    provider: Any,
    zone: str,
    replacement: Replacement,
    *,
    has_records: HasRecords,
    go_on: Callable[[], bool] = lambda: True,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Read all hosts, put the replacement in, write all hosts; not any more once `go_on` says so.

    Raises PublisherFailed, ChangedMeanwhile.
    """
    lost = [f"{name}.{zone}" for name in _SRV if has_records(f"{name}.{zone}", "SRV")]
    if lost:
        raise PublisherFailed(
            f"{zone} has SRV records ({', '.join(lost)}), which namecheap's API does not know and would lose when "
            'anything is written. Enter the change by hand: publisher = "manual" below [dns]'
        )
    _patiently(lambda: _read_and_write(provider, zone, replacement, has_records, go_on), sleep)


def _read_and_write(
    provider: Any,
    zone: str,
    replacement: Replacement,
    has_records: HasRecords,
    go_on: Callable[[], bool],
) -> None:
    attributes, hosts = _read(provider, zone)
    if not hosts and any(
        has_records(name, type_) for name in (zone, f"www.{zone}") for type_ in ("A", "AAAA")
    ):
        raise PublisherFailed(
            f"namecheap says that {zone} has no records at all, and the DNS has some: nothing was written. Try again, "
            "and look into its console if it stays so"
        )
    if sorted(map(_value, _mine(hosts, zone, replacement))) == sorted(replacement.after):
        return  # an answer was lost, and it is all done
    wanted = merged(hosts, zone, replacement)
    payload = {**_names(zone), "EmailType": _email_type(attributes, wanted), **_numbered(wanted)}
    if not go_on():
        raise PublisherFailed(f"namecheap answered too late; nothing was written to {zone}")
    written = provider.client.call("namecheap.domains.dns.setHosts", payload)
    done = written.find(f".//{_NAMESPACE}DomainDNSSetHostsResult")
    if done is None or done.attrib.get("IsSuccess", "").lower() != "true":
        raise PublisherFailed(f"namecheap did not take the hosts of {zone}, and gave no reason")


def _read(provider: Any, zone: str) -> tuple[Mapping[str, str], list[dict[str, str]]]:
    """What the list says of itself, and the hosts. Raises PublisherFailed when it may not be the whole list."""
    answer = provider.client.call("namecheap.domains.dns.getHosts", _names(zone))
    result = answer.find(f".//{_NAMESPACE}DomainDNSGetHostsResult")
    error = answer.find(f".//{_NAMESPACE}Error")
    if result is None or error is not None:
        said = f": {error.text}" if error is not None else ""
        raise PublisherFailed(
            f"namecheap did not list the hosts of {zone}{said}. Look whether it is its name server, and whether "
            "this account may change it"
        )
    if result.attrib.get("IsUsingOurDNS", "true").lower() != "true":
        raise PublisherFailed(
            f"{zone} does not use namecheap's name servers, so nobody would see what is published there: set "
            "dns.publisher to whoever serves it"
        )
    hosts = [dict(host.attrib) for host in result]
    for element, host in zip(result, hosts, strict=True):
        if not element.tag.lower().endswith("host") or not all(name in host for name in _NEEDED):
            raise PublisherFailed(
                f"namecheap's list of the hosts of {zone} has something in it that is not understood "
                f"({element.tag.rpartition('}')[2]}), and would be lost when anything is written. Enter the change "
                'by hand: publisher = "manual" below [dns]'
            )
    return result.attrib, hosts


def merged(hosts: list[dict[str, str]], zone: str, replacement: Replacement) -> list[dict[str, str]]:
    """All hosts with the replacement in place, those that do not belong to it as they were.

    Raises PublisherFailed when one would not survive, ChangedMeanwhile when what is to be replaced is not what
    was there.
    """
    strange = sorted({host["Type"] for host in hosts} - set(_TYPES))
    if any(host.get("IsDDNSEnabled", "").lower() == "true" for host in hosts):
        strange.append("A + Dynamic DNS")
    if strange:
        raise PublisherFailed(
            f"{zone} has records of the type {', '.join(strange)}, which namecheap's API may lose when anything "
            'is written. Enter the change by hand: publisher = "manual" below [dns]'
        )
    mine = _mine(hosts, zone, replacement)
    if sorted(map(_value, mine)) != sorted(record.value for record in replacement.before):
        raise ChangedMeanwhile(replacement.name, replacement.type)
    gone = {record.value for record in replacement.remove}
    kept = [host for host in hosts if host not in mine or _value(host) not in gone]
    label = relative(replacement.name, zone)
    return [*kept, *(_host(label, replacement, value) for value in replacement.add)]


def _mine(hosts: list[dict[str, str]], zone: str, replacement: Replacement) -> list[dict[str, str]]:
    label = relative(replacement.name, zone)
    return [h for h in hosts if (h["Name"].lower() or "@") == label and h["Type"] == replacement.type]


def _patiently(ask: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """What `ask` returns; asked again while namecheap answers with an HTTP error, which it does to too many
    requests a minute. Everything is read anew before it is written again."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return ask()
        except Exception as error:
            if not _is_http_error(error):
                raise
        sleep(_PAUSE)
    return ask()


def _is_http_error(error: Exception) -> bool:
    # Lexicon's own exception, which is private and keeps the status to itself: "1 - Did not receive 200 (Ok)".
    return type(error).__name__ == "_ApiError" and str(getattr(error, "number", "")) == "1"


def _names(zone: str) -> dict[str, str]:
    label, _, rest = zone.partition(".")
    return {"SLD": label, "TLD": rest}


def _host(label: str, replacement: Replacement, value: str) -> dict[str, str]:
    host = {"Name": label, "Type": replacement.type, "TTL": str(replacement.common_ttl)}
    if replacement.type == "MX":
        preference, _, target = value.partition(" ")
        return host | {"MXPref": preference, "Address": f"{target}."}
    return host | {"Address": value if replacement.type == "TXT" else presentation(replacement.type, value)}


def _value(host: Mapping[str, str]) -> str:
    address = plain("CNAME" if host["Type"] == "MX" else host["Type"], host["Address"])
    return f"{host.get('MXPref', '10')} {address}" if host["Type"] == "MX" else address


def _email_type(result: Mapping[str, str], hosts: list[dict[str, str]]) -> str:
    if any(host["Type"] == "MX" for host in hosts):
        return "MX"
    return result.get("EmailType") or "NONE"


def _numbered(hosts: list[dict[str, str]]) -> dict[str, str]:
    return dict(_attributes(hosts))


def _attributes(hosts: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    for number, host in enumerate(hosts, 1):
        for attribute, sent in _ATTRIBUTES.items():
            if attribute in host:
                yield f"{sent}{number}", host[attribute]
