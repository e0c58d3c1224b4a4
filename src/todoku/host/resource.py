"""What every resource of this room has in common: a reason, and what has to be in place before it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TypeVar

from todoku.host.client import Host
from todoku.plan.resource import Resource

SeenT = TypeVar("SeenT")


@dataclass(frozen=True, kw_only=True)
class HostResource(Resource[Host, SeenT]):
    """A resource on the host. `reason` is one sentence; `after` and `follows` are ids of other resources."""

    reason: str
    after: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset()  # those whose change makes this one change as well

    @property
    def why(self) -> str:
        return self.reason

    @property
    def needs(self) -> Set[str]:
        return self.after | self.follows

    @property
    def watches(self) -> Set[str]:
        return self.follows
