"""Files that a restore could not give to their owners, who did not exist yet: given to them before a service starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from todoku.host.backup import restore
from todoku.host.client import Host
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, Resource


@dataclass(frozen=True, kw_only=True)
class RestoredOwners(HostResource[int]):
    """What is seen: how many files wait for their owner."""

    @property
    def id(self) -> str:
        return "restored-owners"

    def look(self, client: Host) -> int:
        return len(restore.owners_to_be(client))

    def differ(self, seen: int) -> Change | None:
        return Change(Action.UPDATE, f"give {seen} restored files to their owners") if seen else None

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        restore.give_to_owners(client)


def with_owners(wanted: Iterable[Resource[Host, Any]], host: Host) -> list[Resource[Host, Any]]:
    """`wanted`, and where files wait for their owner, what gives them to him before any service starts."""
    resources = list(wanted)
    if not restore.owners_to_be(host):
        return resources
    users = frozenset(each.id for each in resources if each.id.startswith(("user:", "group:")))
    giver = RestoredOwners(
        reason="a backup was restored before its users existed", after=users | {"packages"}
    )
    return [
        *(
            replace(each, after=each.after | {giver.id})
            if isinstance(each, HostResource) and each.id.startswith("service:")
            else each
            for each in resources
        ),
        giver,
    ]
