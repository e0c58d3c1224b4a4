"""What fetches the relay's suppression list from the cloud, as a service: only with [cloud] in the settings.

It runs as root, which is whom the key to the cloud is for, and leaves what it fetched in a folder of its own, where the
agent may read it.
"""

from __future__ import annotations

import sys
from typing import Any

from todoku.host import managers
from todoku.host.client import Host
from todoku.host.daemons import agent, gate, own_services
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import RELAY_WATCH, Service
from todoku.plan.resource import Resource
from todoku.settings import Settings

STATE = "/var/lib/todoku/relay"

_CODE = (
    *(
        "cloud/suppressions.py",
        "cloud/log_search.py",
        "cloud/logs.py",
        "cloud/sdk_logging.py",
        "cloud/sdk.py",
    ),
    *(
        "cli/services/relay_watch.py",
        "cli/services/relay_log.py",
        "cli/services/dkim_age.py",
        "delivery/alarms.py",
    ),
)

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku: what the relay says of its own accord
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=5
UMask=0027
MemoryMax=1G
# Reads the settings and the key to the cloud; writes below these folders and nowhere else.
ReadWritePaths={state} {alarms}
ProtectHome=read-only
CapabilityBoundingSet=CAP_CHOWN
{confined}

[Install]
WantedBy=multi-user.target
"""


def resources(settings: Settings, facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """All of it; nothing without [cloud]."""
    if settings.cloud is None:
        return []
    starter = _starter(facts, program)
    folder = Directory(
        path=STATE,
        mode=0o750,
        group=agent.USER,
        reason="what the relay has said",
        after=frozenset({f"group:{agent.USER}", "folder:/var/lib/todoku"}),
    )
    wanted: list[HostResource[Any]] = [folder]
    files = [starter.path] if starter else []
    if starter is not None:
        wanted.append(File(file=starter, reason=f"{facts.service_manager} keeps it running"))
    service = Service(
        daemon=RELAY_WATCH,
        manager=managers.manager(facts.service_manager),
        configuration=(*files, str(program.config), *(str(own_services.PACKAGE / name) for name in _CODE)),
        reason="the relay tells nobody what became of a message: its suppression list and its log have to be asked",
        after=frozenset({f"folder:{STATE}", f"folder:{agent.ALARMS}"}),
        follows=frozenset(f"file:{path}" for path in files),
    )
    return [*wanted, service]


def _starter(facts: Facts, program: gate.Program) -> RenderedFile | None:
    command = [sys.executable, "-I", "-m", "todoku.cli.services.relay_watch", "--config", str(program.config)]
    command += ["--pid-file", RELAY_WATCH.pid_file]

    def unit(line: str) -> str:
        return _UNIT.format(command=line, state=STATE, alarms=agent.ALARMS, confined=own_services.CONFINED)

    return own_services.starter(RELAY_WATCH, facts, command, unit, umask="027")
