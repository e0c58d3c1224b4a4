"""Namecheap, whose API knows no single records: it takes all hosts of a domain at once and forgets the others.

Lexicon's own way of adding a record drops what the list says about the mail service, which makes Namecheap
forget MX records, and it sets the list once for each record. Here the list is read, merged and written once,
every attribute kept. (Namecheap's documentation of domains.dns.setHosts; EmailType has to be MX for MX.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from todoku.dns.publisher import ChangedMeanwhile, PublisherFailed, Replacement
from todoku.dns.text import plain, presentation, relative

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


def replace(provider: Any, zone: str, replacement: Replacement) -> None:
    """Read all hosts, put the replacement in, write all hosts. Raises PublisherFailed, ChangedMeanwhile."""
    label, _, rest = zone.partition(".")
    names = {"SLD": label, "TLD": rest}
    answer = provider.client.call("namecheap.domains.dns.getHosts", dict(names))
    result = answer.find(f".//{_NAMESPACE}DomainDNSGetHostsResult")
    if result is None:
        raise PublisherFailed(
            f"namecheap did not list the hosts of {zone}: look whether it is its name server"
        )
    hosts = [dict(host.attrib) for host in result]
    wanted = merged(hosts, zone, replacement)
    payload = {**names, "EmailType": _email_type(result.attrib, wanted), **_numbered(wanted)}
    written = provider.client.call("namecheap.domains.dns.setHosts", payload)
    done = written.find(f".//{_NAMESPACE}DomainDNSSetHostsResult")
    if done is None or done.attrib.get("IsSuccess", "").lower() != "true":
        raise PublisherFailed(f"namecheap did not take the hosts of {zone}, and gave no reason")


def merged(hosts: list[dict[str, str]], zone: str, replacement: Replacement) -> list[dict[str, str]]:
    """All hosts with the replacement in place, those that do not belong to it as they were.

    Raises PublisherFailed when one is of a type that would not survive, ChangedMeanwhile when what is to be
    replaced is not what was there.
    """
    strange = sorted({host["Type"] for host in hosts} - set(_TYPES))
    if strange:
        raise PublisherFailed(
            f"{zone} has records of the type {', '.join(strange)}, which namecheap's API may lose when anything "
            'is written. Enter the change by hand: publisher = "manual" below [dns]'
        )
    label = relative(replacement.name, zone)
    mine = [h for h in hosts if h["Name"].lower() == label and h["Type"] == replacement.type]
    if sorted(map(_value, mine)) != sorted(record.value for record in replacement.before):
        raise ChangedMeanwhile(replacement.name, replacement.type)
    gone = {record.value for record in replacement.remove}
    kept = [host for host in hosts if host not in mine or _value(host) not in gone]
    return [*kept, *(_host(label, replacement, value) for value in replacement.add)]


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
    return {
        f"{sent}{number}": host[attribute]
        for number, host in enumerate(hosts, 1)
        for attribute, sent in _ATTRIBUTES.items()
        if attribute in host
    }
