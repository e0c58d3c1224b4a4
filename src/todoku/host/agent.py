"""The agent (`todoku.delivery`) as a service of its own: its user, its folders, the ledger, and what starts it.

Its program is the Python that runs `todoku apply`, as with the gate. Without systemd it is started as root, opens the
mail log (which Postfix then writes for root alone) in a process that does nothing else, and gives its rights up.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import todoku
from todoku.host import gate, managers
from todoku.host.client import Host
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import AGENT, Service
from todoku.host.users import Group, User
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, Resource
from todoku.settings import Settings
from todoku.store import StoreError, ledger

USER = ledger.OWNER
STATE = "/var/lib/todoku/ledger"
EXCHANGE = "/var/lib/todoku/exchange"
LOG = "/var/log/mail.log"
SCHEMA_ID = "ledger:schema"
UNIT = f"/etc/systemd/system/{AGENT.name}.service"
SECTION = f"/etc/supervisor/conf.d/{AGENT.name}.conf"

_PACKAGE = Path(todoku.__file__).parent
_CODE = ("delivery", "settings", "store")  # the rooms that it runs

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku's agent: what became of every message
After=network.target postgresql.service
StartLimitIntervalSec=0

[Service]
{identity}
ExecStart={command}
Restart=always
RestartSec=2
TimeoutStopSec=40
UMask=0077
MemoryMax=1G
# Reads the settings and the journal; writes into these folders and nowhere else.
ReadWritePaths={folders}
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
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter={forbidden_calls}
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_SECTION = """\
; Written by Todoku. Changes made here are replaced.
[program:{name}]
command={command}
directory=/
umask=077
autostart=true
autorestart=true
startsecs=2
startretries=1000
stopsignal=TERM
stopwaitsecs=40
redirect_stderr=true
"""


@dataclass(frozen=True, kw_only=True)
class LedgerSchema(HostResource["str | None"]):
    """The ledger exists, with the schema of this version."""

    place: ledger.Place

    @property
    def id(self) -> str:
        return SCHEMA_ID

    def look(self, client: Host) -> str | None:  # noqa: ARG002
        try:
            return ledger.current_revision(self.place)
        except StoreError as error:
            raise LookFailed(str(error)) from error

    def differ(self, seen: str | None) -> Change | None:
        wanted = ledger.wanted_revision()
        if seen == wanted:
            return None
        if seen is None:
            return Change(Action.CREATE, f"make the ledger (schema {wanted})")
        summary = f"migrate the ledger from schema {seen} to {wanted}, keeping what is in it"
        return Change(Action.UPDATE, summary)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        try:
            ledger.migrate(self.place)
        except StoreError as error:
            raise ChangeFailed(str(error)) from error


def resources(settings: Settings, facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """All of the agent. `program` is how the gate is started: the same Python, the same settings."""
    starter = _starter(facts, program)
    user = frozenset({f"user:{USER}"})
    state = frozenset({"folder:/var/lib/todoku"})
    wanted: list[HostResource[Any]] = [
        Group(name=USER, reason="whom the gate's records are for"),
        User(
            name=USER,
            group=USER,
            home=STATE,
            reason="reads what strangers get written into logs, and should be able to do nothing else",
            after=frozenset({f"group:{USER}"}),
        ),
        Directory(path=STATE, mode=0o750, owner=USER, group=USER, reason="the ledger", after=user | state),
        # Set-group-id: what the gate writes there is for the agent's group.
        Directory(
            path=EXCHANGE,
            mode=0o2770,
            owner=gate.USER,
            group=USER,
            reason="what the gate and the agent tell each other",
            after=user | state | {f"user:{gate.USER}"},
        ),
        LedgerSchema(
            place=place(settings),
            reason="what became of every message is kept in it",
            after=user | {f"folder:{STATE}"},
        ),
    ]
    files = [starter.path] if starter else []
    if starter is not None:
        wanted.append(File(file=starter, reason=f"{facts.service_manager} keeps the agent running"))
    service = Service(
        daemon=AGENT,
        manager=managers.manager(facts.service_manager),
        configuration=(*files, str(program.config), *_code()),
        reason="reads logs into the ledger, so that it is known what became of every message",
        after=user | {SCHEMA_ID, f"folder:{STATE}", f"folder:{EXCHANGE}"},
        follows=frozenset({*(f"file:{path}" for path in files), SCHEMA_ID}),
    )
    return [*wanted, service]


def place(settings: Settings) -> ledger.Place:
    """Where the ledger is."""
    return ledger.Place(settings.ledger.database or str(ledger.FILE))


def _command(facts: Facts, program: gate.Program) -> list[str]:
    command = [sys.executable, "-I", "-m", "todoku.delivery", "--config", str(program.config)]
    command += ["--user", USER, "--pid-file", AGENT.pid_file]
    # With systemd all of syslog is in the journal; otherwise Postfix writes its own file (main.cf).
    return command if facts.service_manager == "systemd" else [*command, "--log", LOG]


def _starter(facts: Facts, program: gate.Program) -> RenderedFile | None:
    if facts.service_manager == "systemd":
        return RenderedFile(UNIT, _unit(facts, program))
    if facts.service_manager == "supervisord":
        command = shlex.join(_command(facts, program)).replace("%", "%%")
        return RenderedFile(SECTION, _SECTION.format(name=AGENT.name, command=command))
    return None


def _unit(facts: Facts, program: gate.Program) -> str:
    """Where only root can read the code, the agent needs what changes its user, and to see that folder."""
    code_is_open = program.code_is_open
    needed = (_PACKAGE.resolve(), Path(sys.prefix), Path(sys.executable).resolve(), program.config)
    below_home = any(path.is_relative_to(home) for path in needed for home in ("/root", "/home"))
    own = f"User={USER}\nGroup={USER}\nSupplementaryGroups=systemd-journal"
    return _UNIT.format(
        command=" ".join(gate.quoted(word) for word in _command(facts, program)),
        identity=own if code_is_open else "# Gives its rights up itself.\nUser=root",
        capabilities="" if code_is_open else "CAP_SETUID CAP_SETGID",
        forbidden_calls="~@resources @privileged" if code_is_open else "~@resources",
        home="read-only" if below_home else "yes",
        folders=f"{STATE} {EXCHANGE}",
    )


def _code() -> tuple[str, ...]:
    """An update replaces these files: then the agent starts anew."""
    found = [
        str(Path(folder, name))
        for room in _CODE
        for folder, _, names in os.walk(_PACKAGE / room)
        for name in names
        if name.endswith(".py")
    ]
    return tuple(sorted(found))
