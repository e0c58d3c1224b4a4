"""The agent (`todoku.delivery`) as a service of its own: its user, its folders, the ledger, and what starts it.

Without systemd it is started as root, opens the mail log (which Postfix then writes for root alone) in a process that
does nothing else, and gives its rights up.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from todoku.host import database, guessing, managers, way_out
from todoku.host.client import Host
from todoku.host.daemons import gate, own_services
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
ALARMS = "/var/lib/todoku/alarms"
LOG = "/var/log/mail.log"
SCHEMA_ID = "ledger:schema"

_CODE = ("delivery", "settings", "store")  # the rooms that it runs

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku's agent: what became of every message
After={order}
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=2
TimeoutStopSec=40
UMask=0077
MemoryMax=1G
# Reads the settings and the journal; writes into these folders and nowhere else.
ReadWritePaths={folders}
{confined}

[Install]
WantedBy=multi-user.target
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
        return Change(Action.UPDATE, f"{summary}; a copy stays as {ledger.copy_of(self.place, seen)}")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        try:
            ledger.migrate(self.place)
        except StoreError as error:
            raise ChangeFailed(str(error)) from error


def resources(settings: Settings, facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """All of the agent. `program` is how the gate is started: the same Python, the same settings."""
    place = ledger.place_of(settings)
    starter = _starter(facts, program, database.order(place))
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
        # Set-group-id: whoever finds something wrong tells the agent (`delivery.alarms`).
        Directory(
            path=ALARMS,
            mode=0o2750,
            group=USER,
            reason="what is wrong at the moment, for the agent to tell the postmaster",
            after=user | state,
        ),
        *database.resources(place, ledger.PASSWORD),
        LedgerSchema(
            place=place,
            reason="what became of every message is kept in it",
            after=user | {f"folder:{STATE}"},
        ),
    ]
    wanted.append(
        guessing.GuessingKey(
            agent=USER,
            reason="Dovecot asks the agent who may try passwords",
            after=user | {f"folder:{STATE}", "packages"},
        )
    )
    files = [starter.path] if starter else []
    if starter is not None:
        wanted.append(File(file=starter, reason=f"{facts.service_manager} keeps the agent running"))
    service = Service(
        daemon=AGENT,
        manager=managers.manager(facts.service_manager),
        configuration=(
            *files,
            str(program.config),
            guessing.AGENT_FILE,
            *own_services.code(_CODE),
            *database.read_at_start(place),
        ),
        reason="reads logs into the ledger, so that it is known what became of every message",
        after=user
        | database.needed(place)
        | {SCHEMA_ID, guessing.ID, f"folder:{STATE}", f"folder:{EXCHANGE}"},
        follows=frozenset({*(f"file:{path}" for path in files), SCHEMA_ID, guessing.ID}),
    )
    return [*wanted, service]


def _command(facts: Facts, program: gate.Program) -> list[str]:
    command = [sys.executable, "-I", "-m", "todoku.delivery", "--config", str(program.config)]
    command += ["--user", USER, "--pid-file", AGENT.pid_file]
    # With systemd all of syslog is in the journal; otherwise Postfix writes its own file (main.cf).
    return command if facts.service_manager == "systemd" else [*command, "--log", LOG]


def _starter(facts: Facts, program: gate.Program, order: str) -> RenderedFile | None:
    confined = own_services.without_rights(
        USER,
        USER,
        program.config,
        code_is_open=program.code_is_open,
        more="SupplementaryGroups=systemd-journal postdrop",
        confined=own_services.RUNS_POSTFIX,
    )

    def unit(line: str) -> str:
        folders = f"{STATE} {EXCHANGE} {way_out.FOLDER}"
        return _UNIT.format(command=line, folders=folders, confined=confined, order=order)

    return own_services.starter(AGENT, facts, _command(facts, program), unit)
