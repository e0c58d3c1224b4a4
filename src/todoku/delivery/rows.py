"""The ledger's rows while they are worked on: read from it once, changed in memory, written back all together.

One statement for all new rows of a table and one for all changed ones, however many messages there are: what makes
a row costs a few microseconds then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from todoku.store import ledger_schema as schema

_AT_ONCE = 500  # values in one IN (...)
_NEVER_CHANGED = {"id", "message", "address"}
_LONGEST = {
    "words": 1000,
    "address": 320,
    "original": 320,
    "login": 254,
    "queue_id": 64,
    "parent": 64,
    "dsn": 16,
}


def clean(text: str, name: str = "") -> str:
    """What every database takes: no NUL, no half of a surrogate pair, not endless."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return text[: _LONGEST.get(name, 1000)]


@dataclass(slots=True)
class Row:
    """`values` by column. `is_new`: not in the ledger yet; `changed`: differs from what is there; `gone`: is to go."""

    values: dict[str, Any]
    is_new: bool = False
    changed: bool = False
    gone: bool = False

    @property
    def id(self) -> int:
        return int(self.values["id"])

    def set(self, name: str, value: Any) -> None:
        if isinstance(value, str):
            value = clean(value, name)
        if self.values[name] != value:
            self.values[name] = value
            self.changed = True

    def fill(self, name: str, value: Any) -> None:
        """Only where nothing is known yet, and something is now."""
        if self.values[name] is None and value is not None:
            self.set(name, value)


@dataclass(slots=True)
class MessageRow(Row):
    recipients: dict[str, Row] = field(default_factory=dict)  # by address

    def may_be_of(self, moment: float) -> bool:
        """Whether something that happened then can be about this message: a queue ID may be used again."""
        removed = self.values["removed"]
        return removed is None or moment <= removed + 1.0


class Rows:
    """What one transaction works on. Numbers are given out here: nobody else writes."""

    def __init__(self) -> None:
        self.open: dict[str, MessageRow] = {}  # by queue ID: those that something may still be said about
        self._touched: dict[int, MessageRow] = {}
        self._attempts: list[dict[str, Any]] = []
        self._deleted: list[int] = []  # recipients
        self._next: dict[str, int] | None = None

    def begin(self, connection: Connection, queue_ids: Iterable[str]) -> None:
        """Reads what is known of the messages with these queue IDs."""
        if self._next is None:
            self._next = {
                table.name: (connection.execute(select(func.max(table.c.id))).scalar() or 0) + 1
                for table in (schema.message, schema.recipient, schema.attempt)
            }
        unknown = [each for each in dict.fromkeys(queue_ids) if each and each not in self.open]
        for some in _pieces(unknown):
            self._read(connection, schema.message.c.queue_id.in_(some))

    def read_messages(self, connection: Connection, ids: Sequence[int]) -> list[MessageRow]:
        """The messages with these numbers, whether something was still said about them or not."""
        known = {row.id: row for row in self.open.values()}
        found = [known[each] for each in ids if each in known]
        for some in _pieces([each for each in ids if each not in known]):
            found += self._read(connection, schema.message.c.id.in_(some))
        return found

    def _read(self, connection: Connection, where: Any) -> list[MessageRow]:
        rows = connection.execute(select(schema.message).where(where).order_by(schema.message.c.id))
        found = {row["id"]: MessageRow(dict(row)) for row in rows.mappings()}
        for some in _pieces(list(found)):
            query = select(schema.recipient).where(schema.recipient.c.message.in_(some))
            for row in connection.execute(query).mappings():
                found[row["message"]].recipients[row["address"]] = Row(dict(row))
        for message in found.values():
            if message.values["queue_id"]:
                self.open[message.values["queue_id"]] = message  # the latest of several
        return list(found.values())

    def message(self, queue_id: str, moment: float) -> MessageRow:
        """The message that this queue ID means then; a new one when there is none."""
        known = self.open.get(queue_id) if queue_id else None
        if known is not None and known.may_be_of(moment):
            self._touched[known.id] = known
            return known
        values: dict[str, Any] = dict.fromkeys(_COLUMNS[schema.message.name])
        values |= {"id": self._number(schema.message), "arrived": moment, "queue_id": queue_id or None}
        made = MessageRow(values, is_new=True)
        self._touched[made.id] = made
        if queue_id:
            self.open[queue_id] = made
        return made

    def touch(self, message: MessageRow) -> None:
        self._touched[message.id] = message

    def recipient(self, message: MessageRow, address: str, state: str, moment: float) -> tuple[Row, bool]:
        """That recipient of the message, and whether it is new: then with this state."""
        address = clean(address.lower(), "address")
        known = message.recipients.get(address)
        if known is not None and not known.gone:
            return known, False
        if known is not None and not known.is_new:
            self._deleted.append(known.id)  # another takes its place
        values: dict[str, Any] = dict.fromkeys(_COLUMNS[schema.recipient.name])
        values |= {"id": self._number(schema.recipient), "message": message.id}
        values |= {"address": address, "state": state, "since": moment}
        made = message.recipients[address] = Row(values, is_new=True)
        return made, True

    def attempt(self, recipient: Row, moment: float, state: str, host: str, dsn: str, words: str) -> None:
        self._attempts.append(
            {
                "id": self._number(schema.attempt),
                "recipient": recipient.id,
                "time": moment,
                "state": state,
                "host": clean(host),
                "dsn": clean(dsn, "dsn"),
                "words": clean(words, "words"),
            }
        )

    def write(self, connection: Connection) -> None:
        """Everything that is new or changed."""
        messages = list(self._touched.values())
        recipients = [row for each in messages for row in each.recipients.values()]
        gone = self._deleted + [row.id for row in recipients if row.gone and not row.is_new]
        for some in _pieces(gone):  # first: another may have the same address
            connection.execute(delete(schema.recipient).where(schema.recipient.c.id.in_(some)))
        _write(connection, schema.message, messages)
        _write(connection, schema.recipient, (row for row in recipients if not row.gone))
        if self._attempts:
            connection.execute(insert(schema.attempt), self._attempts)

    def written(self) -> None:
        """After the commit: what was worked on is what is in the ledger. What left the queue is forgotten."""
        for message in self._touched.values():
            for row in (message, *message.recipients.values()):
                row.is_new = row.changed = False
            message.recipients = {to: row for to, row in message.recipients.items() if not row.gone}
            queue_id = message.values["queue_id"]
            if message.values["removed"] is not None and self.open.get(queue_id) is message:
                del self.open[queue_id]
        self._touched.clear()
        self._attempts.clear()
        self._deleted.clear()

    def _number(self, table: Table) -> int:
        assert self._next is not None, "begin() comes first"  # noqa: S101
        number = self._next[table.name]
        self._next[table.name] = number + 1
        return number


def _write(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for row in rows:
        if row.is_new:
            new.append(row.values)
        elif row.changed:
            changed.append({f"new_{name}": value for name, value in row.values.items()})
    if new:
        connection.execute(insert(table), new)
    if changed:
        connection.execute(_UPDATES[table.name], changed)


def _update(table: Table) -> Any:
    columns = [column.name for column in table.c if column.name not in _NEVER_CHANGED]
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    return update(table).where(table.c.id == bindparam("new_id")).values(values)


def _pieces(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


_UPDATES = {table.name: _update(table) for table in (schema.message, schema.recipient)}
_COLUMNS = {table.name: [column.name for column in table.c] for table in (schema.message, schema.recipient)}
