"""The DNS service's zones: their records, checked and normalized, and their text as a zone file.

Record data is read in presentation format (RFC 1035 5.1), "as whitespace-delimited tokens" (SDK: Record), so a
TXT value without quotes becomes one string per word, and one of more than 255 octets is refused. "All RDATA is
normalized": what comes back may differ from what was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from .entries import Entry
from .errors import invalid

# Which of its name servers a zone gets; they all are the world's one.
NAME_SERVER_ZONE = "dns.oraclecloud.net"
NAME_SERVERS = tuple(f"ns{number}.p201.{NAME_SERVER_ZONE}" for number in range(1, 5))
TTL = 86_400
# RFC 1034 3.6.2, RFC 4034: nothing else may be where a CNAME is.
_BESIDE_CNAME = frozenset(("CNAME", "RRSIG", "NSEC", "DNSSEC"))


@dataclass(frozen=True, slots=True)
class Rr:
    """One record; the domain in lower case, without the final dot."""

    domain: str
    type: str
    data: str
    ttl: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same record, whatever its TTL."""
        return self.domain, self.type, self.data

    def shown(self, version: int, *, protected: bool) -> dict[str, Any]:
        """As the API shows it."""
        digest = hashlib.md5(repr(self.key).encode(), usedforsecurity=False).hexdigest()
        return {
            "domain": self.domain,
            "rtype": self.type,
            "rdata": self.data,
            "ttl": self.ttl,
            "recordHash": digest,
            "isProtected": protected,
            "rrsetVersion": str(version),
        }


@dataclass(slots=True, kw_only=True)
class Zone(Entry):
    """A zone of the customer's; the service keeps SOA and NS at its top itself."""

    records: tuple[Rr, ...] = ()
    serial: int = 1

    def everything(self) -> tuple[Rr, ...]:
        """With the protected records."""
        soa = f"{NAME_SERVERS[0]}. hostmaster.oracle.com. {self.serial} 3600 600 604800 1800"
        top = [Rr(self.name, "SOA", soa, 300)]
        top += [Rr(self.name, "NS", f"{server}.", TTL) for server in NAME_SERVERS]
        return (*top, *self.records)

    def is_protected(self, record: Rr) -> bool:
        """Nobody changes these."""
        return record.domain == self.name and record.type in ("SOA", "NS")

    def holds(self, domain: str) -> bool:
        """Whether a name lies in the zone."""
        return domain == self.name or domain.endswith(f".{self.name}")

    def replace(self, records: Iterable[Rr], now: float) -> None:
        """Make these the records. Raises `ApiError` 400 where they cannot be together."""
        unique = {record.key: record for record in records}
        check_together(unique.values())
        chosen = tuple(sorted(unique.values(), key=lambda r: (r.domain, r.type, r.data)))
        if chosen != self.records:
            self.records = chosen
            self.serial += 1
            self.touch(now)

    def text(self) -> str:
        """As a zone file."""
        lines = [f"{r.domain}. {r.ttl} IN {r.type} {r.data}" for r in self.everything()]
        return "\n".join(lines) + "\n"


def normal(name: str) -> str:
    """A domain name in lower case, without the final dot. Raises `ApiError` 400."""
    try:
        return dns.name.from_text(name).canonicalize().to_text(omit_final_dot=True)
    except (dns.exception.DNSException, UnicodeError, ValueError):
        raise invalid(f"{name!r} is not a domain name") from None


def read_record(item: Any, zone: Zone, domain: str | None = None, rtype: str | None = None) -> Rr:
    """A record of a request; `domain` and `rtype` are those of the path. Raises `ApiError` 400."""
    if not isinstance(item, dict):
        raise invalid("items has to be a list of records")
    named = normal(str(item.get("domain") or domain or ""))
    kind = str(item.get("rtype") or rtype or "").upper()
    if (domain is not None and named != domain) or (rtype is not None and kind != rtype):
        raise invalid(f"{named} {kind} does not belong into the record set {domain} {rtype or ''}")
    if not zone.holds(named):
        raise invalid(f"{named} does not lie in the zone {zone.name}")
    data, ttl = item.get("rdata"), item.get("ttl")
    if not isinstance(data, str) or not data:
        raise invalid("rdata is required")
    if ttl is None:
        ttl = TTL
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 <= ttl <= 604_800:
        raise invalid(f"ttl has to be a number of seconds up to 604800, not {ttl!r}")
    return Rr(named, kind, read_data(kind, data), ttl)


def read_data(kind: str, data: str) -> str:
    """Normalized record data. Raises `ApiError` 400."""
    try:
        number = dns.rdatatype.from_text(kind)
        if dns.rdatatype.is_metatype(number) or kind.startswith("TYPE"):
            raise invalid(f"records of type {kind} cannot be made")
        parsed = dns.rdata.from_text(dns.rdataclass.IN, number, data, origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError, UnicodeError) as problem:
        raise invalid(f"rdata: {data[:60]!r} cannot be the data of a {kind} record: {problem}") from None
    return parsed.to_text()


def check_together(records: Iterable[Rr]) -> None:
    """A CNAME stands alone (RFC 1034 3.6.2), also beside the SOA at the top. Raises `ApiError` 400."""
    by_name: dict[str, list[Rr]] = {}
    for record in records:
        by_name.setdefault(record.domain, []).append(record)
    for name, found in by_name.items():
        types = {record.type for record in found}
        cnames = [record for record in found if record.type == "CNAME"]
        if cnames and (types - _BESIDE_CNAME or len(cnames) > 1):
            others = ", ".join(sorted(types - {"CNAME"})) or "another CNAME"
            raise invalid(f"{name}: a CNAME cannot be beside {others} records")


def chosen(records: Sequence[Rr], domain: str | None = None, rtype: str | None = None) -> list[Rr]:
    """Those of a name, of a type, or of both."""
    return [
        record
        for record in records
        if (domain is None or record.domain == domain) and (rtype is None or record.type == rtype)
    ]
