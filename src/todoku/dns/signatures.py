"""DNSSEC: a zone whose signatures do not hold exists for nobody whose resolver checks them (RFC 4035 5).

The authoritative servers show everything as it should be, and a resolver that does not check sees it too: so
this is looked at by itself, once for each zone, and told. Publishing goes on: it does no harm, and is in
force as soon as the zone is signed well.
"""

from __future__ import annotations

from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from todoku.dns.client import Names
from todoku.dns.diagnosis import dnssec
from todoku.dns.publisher import PublisherFailed
from todoku.dns.resources import RecordSetResource, Unknown, known_values
from todoku.plan.resource import Change, NeedsPerson, Resource

_WORKERS = 8


@dataclass(frozen=True)
class SignaturesHold(Resource[Names, Set[str]]):
    """Waits for a person while a zone of the records cannot be validated."""

    records: tuple[RecordSetResource, ...]

    @property
    def id(self) -> str:
        return "dns:signatures"

    @property
    def why(self) -> str:
        return "much of the world checks DNSSEC, and finds nothing in a zone whose signatures do not hold"

    def look(self, client: Names) -> Set[str]:
        """The zones that are in order. Raises NeedsPerson."""
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="dns") as pool:
            found = pool.map(lambda resource: _zone(resource, client), self.records)
            zones = sorted({zone for zone in found if zone is not None})
            troubles = [
                trouble for told in pool.map(lambda zone: _troubles(zone, client), zones) for trouble in told
            ]
        if troubles:
            raise NeedsPerson("; ".join(troubles))
        return frozenset(zones)

    def differ(self, seen: Set[str]) -> Change | None:  # noqa: ARG002 - it never differs
        return None

    def change(self, change: Change, client: Names) -> None:
        """Never called: nobody but who signs the zone can change it."""


def _zone(resource: RecordSetResource, client: Names) -> str | None:
    known = known_values(resource.record, client)
    if isinstance(known, Unknown):
        return None
    try:
        return client.zone(known[0])
    except PublisherFailed:
        return None  # the record itself says so


def _troubles(zone: str, client: Names) -> list[str]:
    resolved = client.lookups.resolve(zone, "SOA")
    return [trouble.text for trouble in dnssec(client.lookups, zone, "SOA", resolved)]
