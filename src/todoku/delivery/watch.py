"""The agent looks from time to time whether all is well, and has the postmaster told of what is not.

What is used of the relay's plan the gate counts, and tells (`gate.rules.spending`).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, select

from todoku.delivery import alarms, conditions, machine, queue, states
from todoku.delivery.conditions import DAY, HOUR, Seen
from todoku.delivery.postmaster import Postmaster
from todoku.delivery.queue import Waiting
from todoku.settings import Settings
from todoku.store import ledger
from todoku.store import ledger_schema as schema

EVERY = 5.0  # seconds
_SHARE = 30  # of the time at most is spent on asking Postfix: one part in so many
_MOST = 2000  # recipients that are looked at, the oldest first
_GIVEN_UP = 3 * DAY  # seconds: longer than Postfix keeps anything (maximal_queue_lifetime)
# The main process of each service, by its name.
_SERVICES = {"postfix": "master", "dovecot": "dovecot", "todoku-gate": "todoku-gate"}
_SCANNER = {"clamav-daemon": "clamd"}


@dataclass(slots=True)
class Watch:
    """Looks when called. Raises `StoreError`, OSError."""

    engine: Engine
    settings: Settings
    postmaster: Postmaster
    folder: Path = alarms.FOLDER
    proc: Path = Path("/proc")
    queue: Callable[[], list[Waiting]] = queue.waiting
    certificate_ends: Callable[[], float | None] = machine.certificate_ends
    elapsed: Callable[[], float] = time.monotonic
    found: list[alarms.Alarm] = field(default_factory=list)  # by the last look
    _asked: float = float("-inf")  # for the certificate
    _ends: float | None = None
    _answer: list[Waiting] = field(default_factory=list)
    _believed: float = float("-inf")  # until when

    def __call__(self) -> None:
        self.found = conditions.alarms(self.look())
        self.postmaster.tell(self.found)

    def look(self) -> Seen:
        now = time.time()
        return Seen(
            now=now,
            queue=self._waiting(now),
            services=self._services(),
            usage=(),
            disks=machine.disks(),
            certificate_ends=self._certificate(),
            last_read=None,
            reported=alarms.reported(self.folder),
        )

    def _waiting(self, now: float) -> list[Waiting]:
        """Postfix is asked only when there may be something. It knows better than the ledger, which does not hear of
        what somebody deletes; but not while it is down. A long answer, which takes long, is believed for a while."""
        listed = waiting(self.engine, now)
        if not listed:
            return []
        began = self.elapsed()
        if began < self._believed:
            return self._answer
        try:
            self._answer = self.queue()
        except (OSError, subprocess.SubprocessError):
            return listed
        ended = self.elapsed()
        self._believed = ended + (ended - began) * _SHARE
        return self._answer

    def _services(self) -> dict[str, bool]:
        wanted = _SERVICES | (_SCANNER if self.settings.gate.malware == "clamav" else {})
        running = machine.running(wanted.values(), self.proc)
        return {service: running[process] for service, process in wanted.items()}

    def _certificate(self) -> float | None:
        """Once an hour, as asking leaves lines in the log; and when nobody has answered, a minute later."""
        now = self.elapsed()
        if now - self._asked >= (HOUR if self._ends is not None else 60.0):
            self._asked = now
            self._ends = self.certificate_ends() or self._ends
        return self._ends


def waiting(engine: Engine, now: float) -> list[Waiting]:
    """What the ledger says is in the queue, the oldest first; a bounded part of it. Raises `StoreError`."""
    message, recipient = schema.message, schema.recipient
    query = (
        select(
            message.c.queue_id,
            message.c.arrived,
            message.c.size,
            message.c.sender,
            recipient.c.address,
            recipient.c.words,
        )
        .join(message, recipient.c.message == message.c.id)
        .where(recipient.c.state.in_(states.UNSETTLED))
        .where(message.c.removed.is_(None), message.c.arrived > now - _GIVEN_UP)
        .order_by(message.c.arrived)
        .limit(_MOST)
    )
    with ledger.read(engine) as connection:
        rows = connection.execute(query).all()
    return [
        Waiting(
            row.queue_id or "",
            "deferred",
            row.arrived,
            row.size or 0,
            row.sender or "",
            ((row.address, row.words or ""),),
            None,
        )
        for row in rows
    ]
