"""What looks into held messages (`todoku.quarantine`), as a service of its own, where `protect.incoming_zip` asks for
it.

Three users: the gate puts messages into the folder, this service reads them, and what it unpacks archives with has
nothing at all. The page reaches one socket.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import Any

from todoku.host import managers
from todoku.host.client import Host
from todoku.host.daemons import gate, own_services, page
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import QUARANTINE, Service
from todoku.host.stopped import Stopped
from todoku.host.users import Group, User
from todoku.plan.resource import Action, Change, LookFailed, Resource
from todoku.protect import held
from todoku.settings import Settings

USER, UNPACK_USER = "todoku-quarantine", "todoku-unpack"
STATE = str(held.ROOT)
MESSAGES, DOOR = f"{STATE}/messages", f"{STATE}/door"
UNIT = f"/etc/systemd/system/{QUARANTINE.name}.service"
SECTION = f"/etc/supervisor/conf.d/{QUARANTINE.name}.conf"
_CODE = ("gate", "protect", "quarantine", "settings")  # the rooms that it runs

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku's quarantine: looks into password-protected ZIPs with their addressees' passwords
After=network.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=2
TimeoutStopSec=40
UMask=0077
MemoryMax=1536M
TasksMax=50
LimitCORE=0
# Reads the settings; asks clamd; writes into this folder and nowhere else.
ReadWritePaths={state}
InaccessiblePaths=-/var/lib/todoku/mail -/var/lib/todoku/gate -/var/lib/todoku/ledger -/var/lib/todoku/protect
InaccessiblePaths=-/var/lib/todoku/directory -/etc/todoku/secrets
ProtectProc=invisible
ProcSubset=pid
{confined}

[Install]
WantedBy=multi-user.target
"""


def folders(settings: Settings) -> tuple[str, ...]:
    """Where the gate has to be able to put messages."""
    return (MESSAGES,) if settings.protect.holds else ()


def resources(settings: Settings, facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """All of it; where no mail is held, that it does not run. Raises LookFailed."""
    if not settings.protect.holds:
        return _stopped(facts)
    if importlib.util.find_spec("pyzipper") is None:
        raise LookFailed(
            "protect.incoming_zip = \"quarantine\" needs pyzipper: pip install 'todoku[web]' in Todoku's environment"
        )
    starter = _starter(facts, program)
    users = frozenset({f"user:{USER}", f"user:{UNPACK_USER}"})
    wanted: list[HostResource[Any]] = []
    for name, why in (
        (USER, "who reads held messages"),
        (UNPACK_USER, "unpacks archives by strangers, and has nothing"),
    ):
        wanted.append(Group(name=name, reason=why))
        group = frozenset({f"group:{name}"})
        home = STATE if name == USER else "/nonexistent"
        wanted.append(User(name=name, group=name, home=home, reason=why, after=group))
    wanted += _folders(users | {f"user:{gate.USER}", f"group:{page.USER}", "folder:/var/lib/todoku"})
    files = [starter.path] if starter else []
    if starter is not None:
        wanted.append(File(file=starter, reason=f"{facts.service_manager} keeps the quarantine running"))
    wanted.append(
        Service(
            daemon=QUARANTINE,
            manager=managers.manager(facts.service_manager),
            configuration=(*files, str(program.config), *own_services.code(_CODE)),
            reason="looks into held messages",
            after=users | {f"folder:{path}" for path in (STATE, MESSAGES, DOOR)},
            follows=frozenset(f"file:{path}" for path in files),
        )
    )
    return list(wanted)


@dataclass(frozen=True, kw_only=True)
class QuarantineStopped(HostResource["int | None"]):
    """It does not run, once it was switched off. What is seen: how many messages are still held while it runs, or
    will at boot; None: it does neither."""

    manager: managers.Manager

    @property
    def id(self) -> str:
        return f"service:{QUARANTINE.name}"

    def look(self, client: Host) -> int | None:
        if not self.manager.kept(client, QUARANTINE.name):
            return None
        jobs = (f"{MESSAGES}/{name}" for name in client.entries(MESSAGES) if not name.startswith("."))
        return sum(client.stat(f"{job}/message.eml") is not None for job in jobs)

    def differ(self, seen: int | None) -> Change | None:
        if seen is None:
            return None
        summary = f"stop {QUARANTINE.name}, and have it not started at boot"
        if seen:
            summary += (
                f"; still held: {seen} (todoku protect held list), which nobody gets while it is off: deliver or drop "
                "that first"
            )
        return Change(Action.RUN, summary)

    def change(self, change: Change, client: Host) -> None:
        Stopped(name=QUARANTINE.name, manager=self.manager, reason=self.reason).change(change, client)


def _stopped(facts: Facts) -> list[Resource[Host, Any]]:
    manager = managers.manager(facts.service_manager)
    reason = "no mail is held any more, and nothing else is its work"
    return [QuarantineStopped(manager=manager, reason=reason)] if manager is not None else []


def _folders(after: frozenset[str]) -> list[Directory]:
    top = Directory(path=STATE, mode=0o711, owner=USER, group=USER, reason="mail that is held", after=after)
    below = after | {top.id}
    return [
        top,
        # Set-group-id: what the gate puts there is for the service's group.
        Directory(
            path=MESSAGES,
            mode=0o2770,
            owner=gate.USER,
            group=USER,
            reason="the messages that are held",
            after=below,
        ),
        # The socket in it is the page's group's.
        Directory(
            path=DOOR,
            mode=0o2750,
            owner=USER,
            group=page.USER,
            reason="where the page hands passwords over",
            after=below,
        ),
    ]


def _command(program: gate.Program) -> list[str]:
    command = [sys.executable, "-I", "-m", "todoku.quarantine", "--config", str(program.config)]
    return [*command, "--user", USER, "--unpack-user", UNPACK_USER, "--pid-file", QUARANTINE.pid_file]


def _starter(facts: Facts, program: gate.Program) -> RenderedFile | None:
    if facts.service_manager == "systemd":
        return RenderedFile(UNIT, _unit(program))
    if facts.service_manager == "supervisord":
        return RenderedFile(SECTION, own_services.section(QUARANTINE.name, _command(program)))
    return None


def _unit(program: gate.Program) -> str:
    """It begins as root in any case: it becomes two users."""
    confined = own_services.without_rights(USER, USER, program.config, code_is_open=False)
    return _UNIT.format(command=own_services.unit_command(_command(program)), state=STATE, confined=confined)
