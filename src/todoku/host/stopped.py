"""A daemon that the settings do not want to run, though its package has it started, or they did want it before:
stopped, also after a reboot."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from todoku.host.client import Host, HostError
from todoku.host.managers import Manager
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, ChangeFailed


@dataclass(frozen=True, kw_only=True)
class Stopped(HostResource[bool]):
    """What is seen: whether it runs, or is started at boot."""

    name: str
    manager: Manager

    @property
    def id(self) -> str:
        return f"service:{self.name}"

    def look(self, client: Host) -> bool:
        return self.manager.kept(client, self.name)

    def differ(self, seen: bool) -> Change | None:
        return Change(Action.RUN, f"stop {self.name}, and have it not started at boot") if seen else None

    def triggered(self, by: Set[str]) -> Change:
        """A package that is installed starts its daemon."""
        return Change(Action.RUN, f"stop {self.name}, if {', '.join(sorted(by))} starts it")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        if not self.look(client):
            return
        try:
            self.manager.stop(client, self.name)
        except HostError as error:
            raise ChangeFailed(str(error)) from error
