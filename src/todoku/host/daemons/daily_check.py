"""What has the judge look at everything once a day, as a service.

It runs as root, like `todoku check` itself: the relay's credential and the key to the cloud are for nobody else. It may
write its report to the agent and nothing else of consequence.
"""

from __future__ import annotations

import sys
from typing import Any

from todoku.directory import place
from todoku.host import managers
from todoku.host.client import Host
from todoku.host.daemons import agent, gate, own_services
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import DAILY_CHECK, Service
from todoku.plan.resource import Resource

STATE = "/var/lib/todoku/check"

_CODE = (
    "cli/services/daily_check.py",
    "delivery/alarms.py",
)  # of the process that waits; a look is a new one each time

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku: would they take our mail? Looked at once a day
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=60
UMask=0027
MemoryMax=1G
# Reads the settings, the relay's credential and the key to the cloud; writes its report, and beside the database of the
# accounts, which cannot be read without a lock, and nowhere else.
ReadWritePaths={folders}
ProtectHome=read-only
# Reads folders of others: the directory of accounts, the queue's file system.
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
{confined}

[Install]
WantedBy=multi-user.target
"""


def resources(facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """All of it."""
    starter = _starter(facts, program)
    wanted: list[HostResource[Any]] = [
        Directory(
            path=STATE,
            mode=0o750,
            reason="the number of the process",
            after=frozenset({"folder:/var/lib/todoku"}),
        )
    ]
    files = [starter.path] if starter else []
    if starter is not None:
        wanted.append(File(file=starter, reason=f"{facts.service_manager} keeps it running"))
    service = Service(
        daemon=DAILY_CHECK,
        manager=managers.manager(facts.service_manager),
        configuration=(*files, *(str(own_services.PACKAGE / name) for name in _CODE)),
        reason="what others refuse mail for changes without anybody here doing anything",
        after=frozenset({f"folder:{STATE}", f"folder:{agent.ALARMS}"}),
        follows=frozenset(f"file:{path}" for path in files),
    )
    return [*wanted, service]


def _starter(facts: Facts, program: gate.Program) -> RenderedFile | None:
    command = [sys.executable, "-I", "-m", "todoku.cli.services.daily_check", "--config", str(program.config)]
    command += ["--pid-file", DAILY_CHECK.pid_file]
    folders = f"{STATE} {agent.ALARMS} {place.HERE.database.parent}"

    def unit(line: str) -> str:
        return _UNIT.format(command=line, folders=folders, confined=own_services.RUNS_POSTFIX)

    return own_services.starter(DAILY_CHECK, facts, command, unit, umask="027")
