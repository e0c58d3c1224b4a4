"""Everything that the DNS has to say for these settings, as items of the plan."""

from __future__ import annotations

from todoku.dns import records
from todoku.dns.client import Names
from todoku.dns.guard import ID, FewChanges
from todoku.dns.problems import RecordProblem
from todoku.dns.publisher import PublisherFailed
from todoku.dns.resources import RecordSetResource
from todoku.dns.signatures import SignaturesHold
from todoku.plan.outputs import Outputs
from todoku.plan.resource import Item, LookFailed
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
    checks = (FewChanges(sets, force), SignaturesHold(sets))
    return [*(Item(check, client) for check in checks), *(Item(resource, client) for resource in sets)]


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
