"""Bulk mail as services of their own: its user, its folder, database and key, what sends, and the pages.

Only with [campaign] in the settings. What sends is started as root, reads the relay's password and opens the gate's
counters, and sends in a process that has given its rights up; the pages have neither.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from todoku.campaign import returned, tokens
from todoku.campaign.opened import KEY
from todoku.delivery import left
from todoku.host import database, managers
from todoku.host.client import Host
from todoku.host.daemons import agent, gate, own_services
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import CAMPAIGN, PAGES, Daemon, Service
from todoku.host.stopped import Stopped
from todoku.host.users import Group, User
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, Resource
from todoku.settings import Settings
from todoku.store import StoreError, ledger
from todoku.store import campaign as store

USER = store.OWNER
STATE = str(store.FOLDER)
RETURNED = str(returned.FOLDER)
LEFT = str(left.BULK)
SCHEMA_ID = "campaign:schema"
KEY_ID = "campaign:key"
_CODE = ("campaign", "delivery", "gate", "settings", "store")

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku: {description}
After=network-online.target postgresql.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=5
TimeoutStopSec=90
KillMode=mixed
UMask=0077
MemoryMax=1G
ReadWritePaths={folders}
ProtectProc=invisible
ProcSubset=pid
{confined}

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, kw_only=True)
class CampaignSchema(HostResource["str | None"]):
    """The database exists, with the schema of this version."""

    place: store.Place

    @property
    def id(self) -> str:
        return SCHEMA_ID

    def look(self, client: Host) -> str | None:  # noqa: ARG002
        try:
            return store.current_revision(self.place)
        except StoreError as error:
            raise LookFailed(str(error)) from error

    def differ(self, seen: str | None) -> Change | None:
        wanted = store.wanted_revision()
        if seen == wanted:
            return None
        if seen is None:
            return Change(Action.CREATE, f"make the database of bulk mail (schema {wanted})")
        summary = f"migrate the database of bulk mail from schema {seen} to {wanted}, keeping what is in it"
        return Change(Action.UPDATE, f"{summary}; a copy stays as {store.copy_of(self.place, seen)}")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        try:
            store.migrate(self.place)
        except StoreError as error:
            raise ChangeFailed(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class LinkKey(HostResource[bool]):
    """The key with which the links in messages are sealed. Made once: another would make all links sent so far void."""

    @property
    def id(self) -> str:
        return KEY_ID

    def look(self, client: Host) -> bool:
        return client.stat(str(KEY)) is not None

    def differ(self, seen: bool) -> Change | None:
        return None if seen else Change(Action.CREATE, f"make the key {KEY}")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        try:
            with ledger.as_owner_of(KEY.parent):
                tokens.make(KEY)
        except OSError as error:
            raise ChangeFailed(f"{KEY} cannot be made: {error.strerror}") from error


def folders(settings: Settings) -> tuple[str, ...]:
    """Where the gate has to be able to put files."""
    return (RETURNED,) if settings.campaign is not None else ()


def resources(settings: Settings, facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """All of it; without [campaign], that nothing of it runs."""
    if settings.campaign is None:
        manager = managers.manager(facts.service_manager)
        reason = "the settings have no [campaign] any more"
        return [
            *(
                Stopped(name=each.name, manager=manager, reason=reason)
                for each in (CAMPAIGN, PAGES)
                if manager
            ),
            *database.resources(store.place(), store.PASSWORD),
        ]
    place = store.place_of(settings.campaign)
    user = frozenset({f"user:{USER}"})
    folder = frozenset({f"folder:{STATE}"})
    needed = user | {SCHEMA_ID, KEY_ID} | database.needed(place)
    wanted: list[HostResource[Any]] = [
        Group(name=USER, reason="whom the lists of bulk mail belong to"),
        User(
            name=USER,
            group=USER,
            home=STATE,
            reason="reads what strangers enter into forms, and should be able to do nothing else",
            after=frozenset({f"group:{USER}"}),
        ),
        Directory(
            path=STATE,
            mode=0o750,
            owner=USER,
            group=USER,
            reason="lists, consent and campaigns",
            after=user | {"folder:/var/lib/todoku"},
        ),
        # Set-group-id: what the gate puts there is for those who keep the lists.
        Directory(
            path=RETURNED,
            mode=0o2770,
            owner=gate.USER,
            group=USER,
            reason="what bounces of bulk mail, from the gate to the lists",
            after=user | {"folder:/var/lib/todoku", f"user:{gate.USER}"},
        ),
        # Set-group-id: what it has sent of the relay's plan is for the agent, which has the queue wait.
        Directory(
            path=LEFT,
            mode=0o2750,
            owner=USER,
            group=agent.USER,
            reason="what bulk mail has used of the relay's plan, for the agent",
            after=user | {"folder:/var/lib/todoku", f"group:{agent.USER}"},
        ),
        *database.resources(place, store.PASSWORD),
        CampaignSchema(
            place=place,
            reason="who agreed to what, and who got which message",
            after=user | folder,
        ),
        LinkKey(reason="nobody but their owner can use the links in a message", after=folder),
    ]
    sender = _service(
        facts,
        program,
        CAMPAIGN,
        "todoku.campaign",
        description="sends what is due of campaigns",
        code=_CODE,
        more=database.read_at_start(place),
        # The counters, which are the gate's, and what the postmaster should know.
        folders=(STATE, RETURNED, LEFT, gate.STATE, agent.ALARMS, "/run/todoku"),
        after=needed
        | {f"folder:{each}" for each in (RETURNED, LEFT, agent.ALARMS)}
        | {"relay-credential", gate.SERVICE_ID},
    )
    pages = _service(
        facts,
        program,
        PAGES,
        "todoku.web.subscriptions_server",
        description="pages on which people subscribe and unsubscribe",
        code=(*_CODE, "web"),
        more=database.read_at_start(place),
        folders=(STATE, "/run/todoku"),
        after=needed,
    )
    return [*wanted, *sender, *pages]


def _service(
    facts: Facts,
    program: gate.Program,
    daemon: Daemon,
    module: str,
    *,
    description: str,
    code: Sequence[str],
    more: Sequence[str],
    folders: Sequence[str],
    after: frozenset[str],
) -> list[HostResource[Any]]:
    command = [sys.executable, "-I", "-m", module, "--config", str(program.config)]
    command += ["--user", USER, "--pid-file", daemon.pid_file]
    starter = _starter(facts, program, daemon.name, command, description, folders)
    files = [starter.path] if starter else []
    service = Service(
        daemon=daemon,
        manager=managers.manager(facts.service_manager),
        configuration=(*files, str(program.config), *own_services.code(code), *more),
        reason=description,
        after=after,
        follows=frozenset({*(f"file:{path}" for path in files), SCHEMA_ID}),
    )
    if starter is None:
        return [service]
    return [File(file=starter, reason=f"{facts.service_manager} keeps it running"), service]


def _starter(
    facts: Facts,
    program: gate.Program,
    name: str,
    command: Sequence[str],
    description: str,
    folders: Sequence[str],
) -> RenderedFile | None:
    if facts.service_manager == "supervisord":
        section = own_services.section(name, command)
        return RenderedFile(f"/etc/supervisor/conf.d/{name}.conf", section)
    if facts.service_manager != "systemd":
        return None
    confined = own_services.without_rights(USER, USER, program.config, code_is_open=False)
    # Before it gives its rights up it reads what is another user's: the key of the links, the gate's counters.
    before, after = "CAP_SETUID CAP_SETGID", "CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH"
    unit = _UNIT.format(
        description=description,
        command=own_services.unit_command(command),
        folders=" ".join(folders),
        confined=confined.replace(before, after),
    )
    return RenderedFile(f"/etc/systemd/system/{name}.service", unit)
