"""What every resource of this room has in common: a reason, and what has to be in place before it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TypeVar

from todoku.cloud.client import Cloud
from todoku.plan.resource import Resource

SeenT = TypeVar("SeenT")

SOON = 60.0  # seconds that a change waits for what takes only a moment


@dataclass(frozen=True, kw_only=True)
class CloudResource(Resource[Cloud, SeenT]):
    """A resource in the cloud. `reason` is one sentence; `after` are ids of other resources."""

    reason: str
    after: frozenset[str] = frozenset()
    soon: float = SOON

    @property
    def why(self) -> str:
        return self.reason

    @property
    def needs(self) -> Set[str]:
        return self.after
