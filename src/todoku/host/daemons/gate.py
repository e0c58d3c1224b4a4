"""The gate (Todoku's milter) as a service of its own: its user, its folders, what starts it, and the service."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from todoku.host import managers
from todoku.host.client import Host
from todoku.host.daemons import own_services
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import GATE, Service
from todoku.host.users import User
from todoku.plan.resource import Resource
from todoku.settings import DEFAULT_PATH

USER = "todoku-gate"
# Its group: that of whom it serves. The directory's tables and the socket are for that group.
GROUP = "postfix"
STATE = "/var/lib/todoku/gate"
SOCKET_FOLDER = "/var/spool/postfix/todoku"
SERVICE_ID = f"service:{GATE.name}"
UNIT = f"/etc/systemd/system/{GATE.name}.service"
SECTION = f"/etc/supervisor/conf.d/{GATE.name}.conf"

# mallopt(3): what large messages took goes back to the system at once. Else each thread keeps its own.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "2"}

_CODE = ("gate", "protect", "settings")  # the rooms that it runs

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku's gate: every message passes it before Postfix takes it
After=network.target
Before=postfix.service postfix@-.service
StartLimitIntervalSec=0

[Service]
Type=notify
Environment={environment}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
WatchdogSec=60
TimeoutStopSec=40
UMask=0077
MemoryMax=1G
# Reads the settings and the directory; asks the DNS; writes below these folders and nowhere else.
ReadWritePaths={state} {socket_folder} -/var/lib/todoku/exchange{more}
ProtectProc=invisible
ProcSubset=pid
{confined}

[Install]
WantedBy=multi-user.target
"""
# Before Postfix (999), which answers 4xx until the gate is there.
_PRIORITY = "priority=500\n"


@dataclass(frozen=True, slots=True)
class Program:
    """How the gate is started: `config` is the settings file that it reads; `code_is_open`: see below."""

    config: Path = DEFAULT_PATH
    code_is_open: bool = True

    def command(self) -> list[str]:
        command = [sys.executable, "-I", "-m", "todoku.gate", "--config", str(self.config)]
        return [*command, "--user", USER, "--pid-file", GATE.pid_file]


def resources(
    facts: Facts,
    program: Program,
    folders: tuple[str, ...] = (),
    read_at_start: Mapping[str, str] = MappingProxyType({}),
) -> list[Resource[Host, Any]]:
    """All of the gate. `folders` are those of others that it writes into; `read_at_start`: resources of others and
    their files, after which it has to be started."""
    starter = _starter(facts, program, folders)
    user = frozenset({f"user:{USER}"})
    user_resource = User(
        name=USER,
        group=GROUP,
        home=STATE,
        reason="the gate reads every message and should be able to do nothing else",
        after=frozenset({"packages"}),
    )
    state = Directory(
        path=STATE,
        mode=0o750,
        owner=USER,
        group=GROUP,
        reason="what the gate has counted",
        after=user | {"folder:/var/lib/todoku"},
    )
    # Set-group-id: what is made in it belongs to Postfix's group.
    socket_folder = Directory(
        path=SOCKET_FOLDER,
        mode=0o2750,
        owner=USER,
        group=GROUP,
        reason="the socket at which Postfix asks the gate",
        after=user,
    )
    wanted: list[HostResource[Any]] = [user_resource, state, socket_folder]
    if starter is not None:
        reason = f"{facts.service_manager} keeps the gate running"
        wanted.append(File(file=starter, reason=reason))
    wanted.append(_service(facts, program.config, starter, folders, read_at_start))
    return list(wanted)


def code_is_open(host: Host) -> bool:
    """Whether others than root can enter the folders of the Python that runs here, and of this package."""
    paths = (
        Path(sys.executable),
        Path(sys.executable).resolve(),
        Path(sys.prefix),
        own_services.PACKAGE.resolve(),
    )
    folders = {str(folder) for path in paths for folder in path.parents}
    found = (host.stat(folder) for folder in sorted(folders))
    return all(stat is None or stat.mode & 0o005 == 0o005 for stat in found)


def _service(
    facts: Facts,
    config: Path,
    starter: RenderedFile | None,
    folders: tuple[str, ...],
    read_at_start: Mapping[str, str],
) -> Service:
    files = [starter.path] if starter else []
    return Service(
        daemon=GATE,
        manager=managers.manager(facts.service_manager),
        configuration=(*files, *read_at_start.values(), *own_services.code(_CODE)),
        read_again=(str(config),),
        reason="says at once, in words, what could not arrive; without it Postfix takes no mail",
        after=frozenset(
            {"packages", f"user:{USER}", *(f"folder:{path}" for path in (STATE, SOCKET_FOLDER, *folders))}
        ),
        follows=frozenset({*(f"file:{path}" for path in files), *read_at_start}),
    )


def _starter(facts: Facts, program: Program, folders: tuple[str, ...]) -> RenderedFile | None:
    if facts.service_manager == "systemd":
        return RenderedFile(UNIT, _unit(program, folders))
    if facts.service_manager == "supervisord":
        variables = ",".join(f'{name}="{value}"' for name, value in _ENVIRONMENT.items())
        more = f"environment={variables}\n{_PRIORITY}"
        return RenderedFile(SECTION, own_services.section(GATE.name, program.command(), more=more))
    return None


def _unit(program: Program, folders: tuple[str, ...] = ()) -> str:
    return _UNIT.format(
        command=own_services.unit_command(program.command()),
        environment=" ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items()),
        state=STATE,
        socket_folder=SOCKET_FOLDER,
        more="".join(f" {path}" for path in folders),
        confined=own_services.without_rights(USER, GROUP, program.config, code_is_open=program.code_is_open),
    )
