"""The way out, which the agent shuts while the relay's plan is used up (`delivery.way_out`): the table that Postfix
asks, and what has Postfix read it, which only root can do.

With systemd a unit waits for the table to change. Otherwise the agent's parent, which has kept its rights, does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from todoku.host.certificates.resources import Timer
from todoku.host.client import Host, Stat
from todoku.host.daemons import own_services
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, Resource
from todoku.store import ledger

FOLDER = "/var/lib/todoku/way-out"
TABLE = f"{FOLDER}/table"
TABLE_ID = "way-out"
NAME = "todoku-way-out"
_UNITS = "/etc/systemd/system"

_PATH = f"""\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku: the relay's plan is used up, or has room again

[Path]
PathChanged={TABLE}

[Install]
WantedBy=multi-user.target
"""
_SERVICE = f"""\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku: Postfix is to read whether mail may leave
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=systemctl reload postfix.service
TimeoutStartSec=2min
UMask=0077
ProtectHome=yes
CapabilityBoundingSet=
MemoryDenyWriteExecute=yes
{own_services.CONFINED.replace("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "RestrictAddressFamilies=AF_UNIX")}
"""


@dataclass(frozen=True, kw_only=True)
class Table(HostResource[Stat | None]):
    """The table, which is the agent's to fill: empty at first, which leaves the way out open."""

    @property
    def id(self) -> str:
        return TABLE_ID

    def look(self, client: Host) -> Stat | None:
        return client.stat(TABLE)

    def differ(self, seen: Stat | None) -> Change | None:
        if seen is not None:
            return None
        return Change(Action.CREATE, f"create {TABLE}, empty: mail may leave")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        client.replace(TABLE, b"", owner=ledger.OWNER, group=ledger.OWNER)


def resources(facts: Facts) -> list[Resource[Host, Any]]:
    """All of it."""
    user = frozenset({f"user:{ledger.OWNER}", f"group:{ledger.OWNER}", "folder:/var/lib/todoku"})
    folder = Directory(
        path=FOLDER,
        owner=ledger.OWNER,
        group=ledger.OWNER,
        reason="whether mail may leave, for Postfix to read",
        after=user,
    )
    table = Table(reason="mail waits while the relay's plan is used up", after=frozenset({folder.id}))
    wanted: list[Resource[Host, Any]] = [folder, table]
    if facts.service_manager != "systemd":
        return wanted
    files = [
        RenderedFile(f"{_UNITS}/{NAME}.{kind}", content)
        for kind, content in (("path", _PATH), ("service", _SERVICE))
    ]
    reason = "Postfix is told when the way out was shut or opened"
    return [
        *wanted,
        *(File(file=file, reason=reason) for file in files),
        Timer(
            name=f"{NAME}.path",
            reason=reason,
            after=frozenset({table.id, "service:postfix"}),
            follows=frozenset(f"file:{file.path}" for file in files),
        ),
    ]
