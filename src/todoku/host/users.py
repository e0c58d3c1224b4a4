"""System groups and users. Those that exist stay as they are: a number that files already belong to is never
changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from todoku.host.client import Host
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change


@dataclass(frozen=True, kw_only=True)
class Group(HostResource[bool]):
    """A system group. What is seen: whether it exists."""

    name: str

    @property
    def id(self) -> str:
        return f"group:{self.name}"

    def look(self, client: Host) -> bool:
        return client.has_group(self.name)

    def differ(self, seen: bool) -> Change | None:
        return None if seen else Change(Action.CREATE, f"create the system group {self.name}")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        client.run(["groupadd", "--system", self.name])


@dataclass(frozen=True, kw_only=True)
class User(HostResource[bool]):
    """A system user who cannot log in. What is seen: whether it exists."""

    name: str
    group: str  # its only one
    home: str

    @property
    def id(self) -> str:
        return f"user:{self.name}"

    def look(self, client: Host) -> bool:
        return client.has_user(self.name)

    def differ(self, seen: bool) -> Change | None:
        return None if seen else Change(Action.CREATE, f"create the system user {self.name} (no log-in)")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        client.run(
            [
                *("useradd", "--system", "--gid", self.group, "--home-dir", self.home, "--no-create-home"),
                *("--shell", "/usr/sbin/nologin", self.name),
            ]
        )
