"""Much of a zone changing at once is more often a mistake than a wish: it is refused unless forced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from todoku.dns.client import Names
from todoku.dns.publisher import PublisherFailed
from todoku.dns.resources import RecordSetResource, Unknown
from todoku.dns.retired import RetiredKeys
from todoku.plan.resource import Change, LookFailed, NotYet, Resource

ID = "dns:few-changes"
SMALL_ZONE = 10  # record sets; below that a share says nothing
_WORKERS = 8
MOST = 0.3  # the share of a zone's record sets that may be changed or removed


def refusal(zone: str, size: int | None, changed: int) -> str | None:
    """Why `changed` of the `size` record sets of a zone may not be changed or removed at once; None if they may."""
    if size is None or size < SMALL_ZONE or changed <= MOST * size:
        return None
    return (
        f"{changed} of the {size} record sets of {zone} would be changed or removed, more than {MOST:.0%}: that looks "
        "like a mistake in the settings. Look at the plan; if it is right, `todoku apply --force`"
    )


@dataclass(frozen=True)
class FewChanges(Resource[Names, Mapping[str, str]]):
    """Refuses, before anything is changed, when too much of a zone would be."""

    records: tuple[RecordSetResource, ...]
    force: bool = False
    retired: tuple[RetiredKeys, ...] = ()

    @property
    def id(self) -> str:
        return ID

    @property
    def why(self) -> str:
        return "changes to much of a zone are not made by accident"

    @property
    def reads(self) -> Set[str]:
        """What the cloud chooses is known when the changes are counted, and yet this needs none of it: a return
        path is made after the records that come after this."""
        told = [*(record.reads for record in self.records), *(retired.reads for retired in self.retired)]
        return frozenset[str]().union(*told)

    def look(self, client: Names) -> Mapping[str, str]:
        """Zone -> why its changes are refused. Raises LookFailed when one is."""
        if self.force:
            return {}
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="dns") as pool:
            zones = pool.map(lambda resource: _changed_zone(resource, client), self.records)
            changed = Counter(zone for zone in zones if zone is not None)
            left = pool.map(lambda retired: _removed_zones(retired, client), self.retired)
            changed.update(zone for zones in left for zone in zones)
        refused = {}
        for zone, number in changed.items():
            try:
                size = client.publisher.size(zone)
            except PublisherFailed as error:
                raise LookFailed(str(error)) from error
            if reason := refusal(zone, size, number):
                refused[zone] = reason
        if refused:
            raise LookFailed("; ".join(refused.values()))
        return refused

    def differ(self, seen: Mapping[str, str]) -> Change | None:  # noqa: ARG002 - it never differs
        return None

    def change(self, change: Change, client: Names) -> None:
        """Never called: there is nothing to change."""


def _changed_zone(resource: RecordSetResource, client: Names) -> str | None:
    """The zone in which the resource would change or remove something; None when it would not."""
    try:
        seen = resource.compare(client)
    except (LookFailed, NotYet):
        return None  # what cannot be looked at says so itself
    if isinstance(seen, Unknown) or not set(seen.values) - set(seen.wanted):
        return None
    return seen.zone


def _removed_zones(retired: RetiredKeys, client: Names) -> list[str]:
    """The zone of each name that would be removed."""
    try:
        return [left.zone for left in retired.look(client)]
    except LookFailed:
        return []  # it says so itself
