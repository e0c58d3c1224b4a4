"""The page at which recipients fetch attachments (`todoku.web`), as a service of its own, where links are given out.

It is open to the world. It has a user of its own and sees the shelf that the gate puts files on; with the right to open
a port below 1024 it starts, reads the certificate, and gives its rights up itself.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from typing import Any

from todoku.host import managers, object_store
from todoku.host.client import Host
from todoku.host.daemons import gate, own_services
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import PAGE, Service
from todoku.host.stopped import Stopped
from todoku.host.users import Group, User
from todoku.plan.resource import LookFailed, Resource
from todoku.protect import shelf
from todoku.settings import Settings

USER = "todoku-web"
STATE = str(shelf.ROOT)
UNIT = f"/etc/systemd/system/{PAGE.name}.service"
SECTION = f"/etc/supervisor/conf.d/{PAGE.name}.conf"
_CODE = ("web", "protect", "settings")  # the rooms that it runs
_NEEDED = ("starlette", "uvicorn")

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku's page: attachments for who can read the mail that they were sent with
After=network.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=2
TimeoutStopSec=40
UMask=0007
MemoryMax=512M
TasksMax=100
LimitNOFILE=4096
# Reads the settings and the certificate; writes below this folder and nowhere else.
ReadWritePaths={state}
InaccessiblePaths=-/var/lib/todoku/mail -/var/lib/todoku/quarantine/messages -/var/lib/todoku/gate
InaccessiblePaths=-/var/lib/todoku/ledger -/etc/todoku/secrets
ProtectProc=invisible
ProcSubset=pid
{confined}

[Install]
WantedBy=multi-user.target
"""


def folders(settings: Settings) -> tuple[str, ...]:
    """Where the gate has to be able to put files."""
    return (STATE,) if settings.protect.page else ()


def read_at_start(settings: Settings) -> dict[str, str]:
    """Ids of resources, and their files, which those who put files there have to be started after."""
    files = object_store.files(settings)
    return {object_store.CREDENTIAL_ID: files[0]} if files else {}


def resources(settings: Settings, facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """All of it; where neither links are given out nor mail is held, that it does not run. Raises LookFailed."""
    if not settings.protect.page:
        return _stopped(facts)
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise LookFailed(
            f"[protect] gives out links or holds mail, and the page needs {' and '.join(missing)}: pip install "
            f"'todoku[web]' in "
            'Todoku\'s environment, or write default = "zip" and subject_words = false, and incoming_zip = "mark"'
        )
    starter = _starter(facts, program)
    user = frozenset({f"user:{USER}"})
    wanted: list[HostResource[Any]] = [
        Group(name=USER, reason="who hands out attachments"),
        User(
            name=USER,
            group=USER,
            home=STATE,
            reason="the page is open to the world, and should be able to do nothing else",
            after=frozenset({f"group:{USER}"}),
        ),
        *_shelf(user | {f"user:{gate.USER}", "folder:/var/lib/todoku"}),
        *object_store.resources(settings, USER),
    ]
    files = [starter.path] if starter else []
    if starter is not None:
        wanted.append(File(file=starter, reason=f"{facts.service_manager} keeps the page running"))
    service = Service(
        daemon=replace(PAGE, ports=(settings.protect.page_port,)),
        manager=managers.manager(facts.service_manager),
        configuration=(
            *files,
            *object_store.files(settings),
            str(program.config),
            *own_services.code(_CODE),
        ),
        reason="recipients fetch attachments there",
        after=user | {"certificate", *(f"folder:{STATE}/{name}" for name in shelf.FOLDERS)},
        # A renewed certificate it takes in by itself (`todoku.web.renewed`), and nobody's download is cut off.
        follows=frozenset(
            {*(f"file:{path}" for path in files), *read_at_start(settings)},
        ),
    )
    return [*wanted, service]


def _stopped(facts: Facts) -> list[Resource[Host, Any]]:
    """Once it was there, it ends with the last reason for it: links that are still out open nothing any more."""
    manager = managers.manager(facts.service_manager)
    reason = "nobody gets links any more, and what the world can reach should have a use"
    return [Stopped(name=PAGE.name, manager=manager, reason=reason)] if manager is not None else []


def _shelf(after: frozenset[str]) -> list[Directory]:
    """Set-group-id: what the gate writes there is for the page's group."""
    top = Directory(
        path=STATE, mode=0o2770, owner=gate.USER, group=USER, reason="attachments, encrypted", after=after
    )
    below = [
        Directory(
            path=f"{STATE}/{name}",
            mode=0o2770,
            owner=gate.USER,
            group=USER,
            reason="attachments, and who may have them",
            after=after | {top.id},
        )
        for name in shelf.FOLDERS
    ]
    return [top, *below]


def _command(program: gate.Program) -> list[str]:
    command = [sys.executable, "-I", "-m", "todoku.web", "--config", str(program.config)]
    return [*command, "--user", USER, "--pid-file", PAGE.pid_file]


def _starter(facts: Facts, program: gate.Program) -> RenderedFile | None:
    if facts.service_manager == "systemd":
        return RenderedFile(UNIT, _unit(program))
    if facts.service_manager == "supervisord":
        return RenderedFile(SECTION, own_services.section(PAGE.name, _command(program), umask="007"))
    return None


def _unit(program: gate.Program) -> str:
    confined = own_services.without_rights(USER, USER, program.config, code_is_open=False)
    confined = confined.replace("CAP_SETUID CAP_SETGID", "CAP_SETUID CAP_SETGID CAP_NET_BIND_SERVICE")
    return _UNIT.format(command=own_services.unit_command(_command(program)), state=STATE, confined=confined)
