"""The gate (Todoku's milter) as a service of its own: its user, its folders, what starts it, and the service.

Its program is the Python that runs `todoku apply`. Where others than root may not enter the folder of that Python,
the gate starts as root and gives up its rights itself, once all is imported.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import todoku
from todoku.host import managers
from todoku.host.client import Host
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

_PACKAGE = Path(todoku.__file__).parent
_CODE = ("gate", "settings")  # the rooms that it runs

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku's gate: every message passes it before Postfix takes it
After=network.target
Before=postfix.service postfix@-.service
StartLimitIntervalSec=0

[Service]
Type=notify
{identity}
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
ReadWritePaths={state} {socket_folder} -/var/lib/todoku/exchange
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter={forbidden_calls}
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
# The gate becomes its user itself: supervisord's "user" would have to be able to read the code.
_SECTION = """\
; Written by Todoku. Changes made here are replaced.
[program:{name}]
command={command}
environment={environment}
directory=/
umask=077
autostart=true
autorestart=true
; Before Postfix (999), which answers 4xx until the gate is there.
priority=500
startsecs=2
startretries=1000
stopsignal=TERM
stopwaitsecs=40
redirect_stderr=true
"""


@dataclass(frozen=True, slots=True)
class Program:
    """How the gate is started: `config` is the settings file that it reads; `code_is_open`: see below."""

    config: Path = DEFAULT_PATH
    code_is_open: bool = True

    def command(self) -> list[str]:
        command = [sys.executable, "-I", "-m", "todoku.gate", "--config", str(self.config)]
        return [*command, "--user", USER, "--pid-file", GATE.pid_file]


def resources(facts: Facts, program: Program) -> list[Resource[Host, Any]]:
    """All of the gate."""
    starter = _starter(facts, program)
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
    wanted.append(_service(facts, program.config, starter))
    return list(wanted)


def code_is_open(host: Host) -> bool:
    """Whether others than root can enter the folders of the Python that runs here, and of this package."""
    paths = (Path(sys.executable), Path(sys.executable).resolve(), Path(sys.prefix), _PACKAGE.resolve())
    folders = {str(folder) for path in paths for folder in path.parents}
    found = (host.stat(folder) for folder in sorted(folders))
    return all(stat is None or stat.mode & 0o005 == 0o005 for stat in found)


def _service(facts: Facts, config: Path, starter: RenderedFile | None) -> Service:
    files = [starter.path] if starter else []
    return Service(
        daemon=GATE,
        manager=managers.manager(facts.service_manager),
        configuration=(*files, *_code()),
        read_again=(str(config),),
        reason="says at once, in words, what could not arrive; without it Postfix takes no mail",
        after=frozenset({"packages", f"user:{USER}", f"folder:{STATE}", f"folder:{SOCKET_FOLDER}"}),
        follows=frozenset(f"file:{path}" for path in files),
    )


def _starter(facts: Facts, program: Program) -> RenderedFile | None:
    if facts.service_manager == "systemd":
        return RenderedFile(UNIT, _unit(program))
    if facts.service_manager == "supervisord":
        content = _SECTION.format(
            name=GATE.name,
            command=shlex.join(program.command()).replace("%", "%%"),
            environment=",".join(f'{name}="{value}"' for name, value in _ENVIRONMENT.items()),
        )
        return RenderedFile(SECTION, content)
    return None


def _unit(program: Program) -> str:
    """Where only root can read the code, the gate needs what changes its user, and to see that folder."""
    code_is_open = program.code_is_open
    needed = (_PACKAGE.resolve(), Path(sys.prefix), Path(sys.executable).resolve(), program.config)
    below_home = any(path.is_relative_to(home) for path in needed for home in ("/root", "/home"))
    return _UNIT.format(
        command=" ".join(quoted(word) for word in program.command()),
        environment=" ".join(f"{name}={value}" for name, value in _ENVIRONMENT.items()),
        identity=f"User={USER}\nGroup={GROUP}"
        if code_is_open
        else "# Gives its rights up itself.\nUser=root",
        capabilities="" if code_is_open else "CAP_SETUID CAP_SETGID",
        forbidden_calls="~@resources @privileged" if code_is_open else "~@resources",
        home="read-only" if below_home else "yes",
        state=STATE,
        socket_folder=SOCKET_FOLDER,
    )


def quoted(word: str) -> str:
    """systemd.service(5), "Command lines": a percent sign and a dollar sign count."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word else word


def _code() -> tuple[str, ...]:
    """An update replaces these files: then the gate starts anew."""
    # os.walk takes no notice of what vanishes meanwhile, as Python's own caches may.
    found = [
        str(Path(folder, name))
        for room in _CODE
        for folder, _, names in os.walk(_PACKAGE / room)
        for name in names
        if name.endswith(".py")
    ]
    return tuple(sorted(found))
