"""What the relay's own log says of bulk mail, as `todoku-relay` fetches it into files: that a message arrived, and so
also that it was taken, where nobody here has heard the answer.

Which row a record is about, the Message-ID says, which is the same for every try. A message whose answer was lost with
a connection, or with a database that an older copy has replaced, is not sent a second time once its record is here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from todoku.campaign.message import message_id
from todoku.campaign.opened import Opened
from todoku.campaign.pace import REST, TOO_FAST
from todoku.delivery import relay_log
from todoku.delivery.entries import Heard
from todoku.delivery.relay_log import RelayLogSource
from todoku.store import campaign_schema as schema

log = logging.getLogger("todoku.campaign")

POSITION = "relay-log-position"  # beside the database
_AT_ONCE = 50  # rows of one person that are looked at
_LATER = {"bounce": "bounced", relay_log.SOFT_BOUNCE: "bounced", "complaint": "complained"}
_got = schema.recipient
# Not what is on its way at this moment: its answer is awaited.
_OPEN = or_(*(_got.c.state == each for each in ("ready", "deferred", "cancelled")))


class Known(NamedTuple):
    """A row, and what a record says about it."""

    row: int
    entry: Heard


class RelayLog:
    """Reads on from where it was. `state`: the folder in which that is kept."""

    def __init__(self, state: Path, folder: Path = relay_log.FOLDER) -> None:
        self._file, self._folder = state / POSITION, folder
        self._source: RelayLogSource | None = None

    def hear(self, opened: Opened) -> int:
        """What is new; of how many messages of ours. Raises `StoreError`: then it is read again."""
        if self._source is None:
            self._source = RelayLogSource(self._folder, self._position())
        source, heard = self._source, 0
        self._source = None  # until it is written what this piece says
        while (entries := source.read()) is not None:
            heard += hear(opened, [each for each in entries if isinstance(each, Heard)])
            self._keep(source.position)
        self._source = source
        return heard

    def _position(self) -> str | None:
        try:
            name, _, offset = self._file.read_text("ascii").strip().partition(" ")
            return f"{name} {int(offset)}"
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning(
                "%s cannot be read, so the relay's log is read from its beginning: %s", self._file, error
            )
            return None

    def _keep(self, position: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(position, "ascii")
        fresh.replace(self._file)


def hear(opened: Opened, entries: Sequence[Heard]) -> int:
    """Raises `StoreError`."""
    now = opened.clock()
    with opened.read() as connection:
        known = list(_known(opened, connection, entries))
    slow = {
        each.address.rpartition("@")[2]
        for each in entries
        if TOO_FAST in each.words and each.action in _LATER and now - each.time < REST
    }
    if known or slow:
        with opened.write() as connection:
            _note(connection, known)
            _slow_down(opened, connection, slow, now)
    return len(known)


def _slow_down(opened: Opened, connection: Connection, domains: Iterable[str], now: float) -> None:
    """Gmail says it to the relay, not to us (`pace`). A domain that rests already goes on resting, not anew."""
    table = schema.slowed
    insert = postgresql.insert if opened.is_shared else sqlite.insert
    for domain in sorted(domains):
        new: Any = insert(table).values(domain=domain, rests_until=now + REST, owner=None)
        values = {"rests_until": now + REST, "owner": None}
        over = table.c.rests_until <= now
        connection.execute(new.on_conflict_do_update(index_elements=["domain"], set_=values, where=over))


def _known(opened: Opened, connection: Connection, entries: Iterable[Heard]) -> Iterable[Known]:
    person = schema.subscriber
    for entry in entries:
        mine = entry.message_id.partition("@")[0]
        rows = connection.execute(
            select(_got.c.id, _got.c.campaign, _got.c.subscriber)
            .join(person, person.c.id == _got.c.subscriber)
            .where(person.c.address == entry.address)
            .order_by(_got.c.id.desc())
            .limit(_AT_ONCE)
        )
        for row in rows.all() if mine else ():
            if message_id(opened.keys, row.campaign, row.id, row.subscriber) == mine:
                yield Known(row.id, entry)


def _note(connection: Connection, known: Sequence[Known]) -> None:
    here = _got.c.id == bindparam("row")
    at: Any = bindparam("at")

    def note(some: list[Known], condition: ColumnElement[bool], **values: Any) -> None:
        if some:
            rows = [{"row": each.row, "at": each.entry.time} for each in some]
            connection.execute(update(_got).where(here, condition).values(**values), rows)

    taken = [each for each in known if each.entry.action != "suppressed"]
    note(taken, _OPEN, state="sent", settled=at, code=250, words=None, owner=None)
    suppressed = [each for each in known if each.entry.action == "suppressed"]
    note(suppressed, _OPEN, state="suppressed", settled=at, code=254, owner=None)
    relayed = [each for each in known if each.entry.action == "relay"]
    note(relayed, _got.c.relayed.is_(None), relayed=at)
    for action, later in _LATER.items():
        note([each for each in known if each.entry.action == action], _got.c.later.is_(None), later=later)
