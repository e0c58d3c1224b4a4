"""The leases of one worker of several: rows of its own until a certain time, which the others then take over.

Who is cut off from the database cannot renew them, and stops sending well before they end. All clocks here are the
database's, and go on while the machine sleeps: workers on machines with different clocks, or one that was suspended,
must not think differently of what has ended.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from todoku.campaign.opened import Opened
from todoku.campaign.rows import Lease
from todoku.store import StoreError

log = logging.getLogger("todoku.campaign")

SECONDS = 60.0
_RENEWED = 0.25  # of the lease: how often
_SAFE = 0.75  # of the lease: after that nothing is begun any more


def machine_clock() -> float:
    """Seconds since this machine started, those included in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DatabaseClock:
    """Seconds since 1970 as PostgreSQL has them, without asking each time."""

    def __init__(self, engine: Engine) -> None:
        """Raises `StoreError`."""
        self._offset = 0.0
        try:
            with engine.connect() as connection:
                self.ask(connection)
        except DBAPIError as error:
            raise StoreError(f"the campaign database could not be used: {error.orig}") from error

    def ask(self, connection: Connection) -> None:
        before = machine_clock()
        there = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        self._offset = float(there) - (before + machine_clock()) / 2

    def __call__(self) -> float:
        return machine_clock() + self._offset


def on_database_time(opened: Opened) -> Opened:
    """The same; where several workers share it, with the database's clock. Raises `StoreError`."""
    return replace(opened, clock=DatabaseClock(opened.engine)) if opened.is_shared else opened


class Held:
    """What one worker holds. `renew` in time, and look at `holds` before each message."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.owner = uuid.uuid4().hex
        self.seconds = seconds
        self.term = 0  # another one after each time that it was too late
        self._safe_until = 0.0

    @property
    def pause(self) -> float:
        """Seconds between two renewals."""
        return self.seconds * _RENEWED

    def lease(self, now: float) -> Lease:
        """One from `now` on, which is the database's."""
        return Lease(self.owner, now + self.seconds)

    def renewed(self, begun: float) -> None:
        """All leases were renewed; the statement was `begun` at that time of `machine_clock`."""
        if (late := machine_clock() - self._safe_until) > 0:
            if self.term:
                log.warning(
                    "the database was out of reach: leases could not be renewed for %.0f s, so what was leased before "
                    "that is left to the others, but for what was on its way",
                    late + self.seconds * _SAFE,
                )
            self.term += 1
        self._safe_until = begun + self.seconds * _SAFE

    def holds(self, term: int) -> bool:
        """Whether what was leased in that term is certainly still its own."""
        return term == self.term and machine_clock() < self._safe_until
