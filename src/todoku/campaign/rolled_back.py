"""Whether the database is an older copy of itself: then somebody has put back a file, a dump or a snapshot, and who got
a campaign since then would get it again.

Beside the database it is written when the last message of bulk mail was sent. The database knows that too, and its
answer never becomes less: when it is less than what the file says, what is being sent stops, nothing is started before
somebody has looked, and the postmaster hears of it. (`todoku restore` sees to that by itself: `taken_over`.)
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, select, text, update

from todoku.campaign import campaigns
from todoku.campaign.opened import Opened
from todoku.store import campaign_schema as schema

log = logging.getLogger("todoku.campaign")

NAME = "last-sent"
_EVERY = 1.0  # seconds between two notes
_SENT = text("recipient.state = 'sent'")  # as the partial index has it, letter by letter


class LastSent:
    """`folder` None: nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / NAME
        self._noted = 0.0

    def note(self, at: float) -> None:
        """A message was sent, and that is on the disk."""
        if self._file is None or at < self._noted + _EVERY:
            return
        fresh = self._file.with_suffix(".new")
        try:
            fresh.write_text(repr(at), "ascii")
            fresh.replace(self._file)
            self._noted = at
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, error.strerror)

    def check(self, opened: Opened) -> tuple[str, ...]:
        """Stops what is being sent from an older copy; the names. Raises `StoreError`."""
        if self._file is None or (noted := self._read()) is None:
            return ()
        with opened.write() as connection:
            known = _last(connection)
            if known >= noted:
                return ()
            stopped = _stop(connection, noted)
        with suppress(OSError):
            self._file.unlink()  # it is said once: `todoku campaign start` goes on
        if stopped:
            log.error("the campaign database is an older copy of itself: stopped %s", ", ".join(stopped))
        return stopped

    def _read(self) -> float | None:
        assert self._file is not None, "asked for before"  # noqa: S101
        try:
            return float(self._file.read_text("ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read: %s", self._file, error)
            return None


def _last(connection: Connection) -> float:
    """Answers to forms aside: their rows are used again."""
    got, table = schema.recipient, schema.campaign
    query = (
        select(got.c.settled)
        .join(table, table.c.id == got.c.campaign)
        .where(_SENT, table.c.kind == "bulk", got.c.settled.is_not(None))
        .order_by(got.c.settled.desc())
        .limit(1)
    )
    return float(connection.execute(query).scalar() or 0.0)


def _stop(connection: Connection, noted: float) -> tuple[str, ...]:
    table = schema.campaign
    when = datetime.fromtimestamp(noted, UTC).isoformat(sep=" ", timespec="seconds")
    words = f"{campaigns.RESTORED} before {when} (UTC): messages were sent then that this database does not know of"
    of_bulk = table.c.kind == "bulk"
    stopped = connection.execute(
        update(table)
        .where(of_bulk, table.c.state == campaigns.STARTED)
        .values(state=campaigns.STOPPED)
        .returning(table.c.name)
    )
    names = tuple(sorted(str(name) for (name,) in stopped))
    over = (campaigns.CANCELLED, campaigns.FINISHED)
    connection.execute(update(table).where(of_bulk, table.c.state.not_in(over)).values(words=words))
    return names
