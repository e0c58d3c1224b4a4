"""Everything that the DNS has to say for these settings, as items of the plan."""

from __future__ import annotations

from typing import Any

from todoku.dns import records
from todoku.dns.client import Names
from todoku.dns.guard import ID, FewChanges
from todoku.dns.problems import RecordProblem
from todoku.dns.publisher import PublisherFailed
from todoku.dns.resources import RecordSetResource
from todoku.dns.retired import RetiredKeys
from todoku.dns.signatures import SignaturesHold
from todoku.plan.outputs import Outputs
from todoku.plan.resource import Item, LookFailed, Resource
from todoku.settings import Settings


def items(
    settings: Settings, outputs: Outputs, *, force: bool = False, names: Names | None = None
) -> list[Item]:
    """The record sets, and what is looked at over them; nothing without a [dns] table. Raises LookFailed.

    `force` lets somebody else's records be replaced, and much of a zone be changed at once.
    """
    if settings.dns is None:
        return []
    try:
        client = names or Names.of(settings, outputs)
        wanted = records.all_records(settings)
    except (RecordProblem, PublisherFailed) as error:
        raise LookFailed(str(error)) from error
    sets = tuple(RecordSetResource(record, force=force, after=frozenset({ID})) for record in wanted)
    retired = _retired(settings)
    resources: list[Resource[Names, Any]] = [FewChanges(sets, force, retired), SignaturesHold(sets)]
    return [Item(resource, client) for resource in [*resources, *sets, *retired]]


def _retired(settings: Settings) -> tuple[RetiredKeys, ...]:
    """What old keys have left behind; only the cloud can tell which those are."""
    if settings.cloud is None:
        return ()
    region, after = settings.relay.region, frozenset({ID})
    return tuple(RetiredKeys(domain.name, region, after) for domain in settings.domains)


def published_ids(settings: Settings) -> dict[str, frozenset[str]]:
    """Domain -> the ids of what Oracle has to find in the DNS before its keys and return paths become active."""
    if settings.dns is None:
        return {}
    return {
        domain.name: frozenset(
            record.id for record in records.cloud_records(settings, domain) if not record.optional
        )
        for domain in settings.domains
    }
