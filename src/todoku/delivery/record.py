"""What was read (from the log, from the gate) becomes rows of the ledger: in order, in one transaction together
with how far was read. So nothing is in it twice, and nothing is missing, whenever the process is killed.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select

from todoku.delivery import relayed, states
from todoku.delivery.entries import (
    Active,
    Attempt,
    Decided,
    Entry,
    Expired,
    Handed,
    Heard,
    Named,
    Noticed,
    Rejected,
    Removed,
    Told,
)
from todoku.delivery.left import Left, emails
from todoku.delivery.rows import MessageRow, Row, Rows
from todoku.delivery.states import State
from todoku.store import StoreError, ledger
from todoku.store import ledger_schema as schema

log = logging.getLogger("todoku.agent")

# Postfix tries again after as long as a message has been waiting, between these (qmgr(8), main.cf), in seconds.
_BACKOFF = (60.0, 1800.0)
_REPLY = re.compile(r"(?:^|said: |to me: )([245]\d\d)\b")
_OF_REASON = {
    "HARDBOUNCE": State.BOUNCED,
    "SOFTBOUNCE": State.EXPIRED,
    "COMPLAINT": State.COMPLAINED,
}
LEFT = "way out"  # in the place of a source: what has left (`left`)
_MOST_OPEN = 20_000  # messages kept in memory; more than that, and they are read from the ledger again


@dataclass(frozen=True, slots=True)
class Changed:
    """A recipient's state changed. `before` is None for a new one."""

    message: MessageRow
    recipient: Row
    before: State | None
    now: State
    time: float
    host: str = ""  # who said so, where it was neither we nor the relay


# Told of the changes within the transaction that makes them.
Listener = Callable[[Connection, Sequence[Changed]], None]


class _Undo(Exception):
    """It could be done."""


class Recorder:
    """Writes the ledger. There must be only one at a time."""

    def __init__(self, engine: Engine, listener: Listener | None = None) -> None:
        self._engine = engine
        self._listener = listener
        self._rows = Rows()
        self._changes: list[Changed] = []
        self._connection: Connection | None = None  # of the transaction
        self._left: Left | None = None  # as it is in the ledger
        self._leaving: list[tuple[float, int]] = []
        self.replies: Counter[str] = Counter()  # of the relay, by their code; "" where it said nothing

    def position(self, source: str) -> str | None:
        """How far that source has been read, in its own words. Raises `StoreError`."""
        query = select(schema.checkpoint.c.position).where(schema.checkpoint.c.source == source)
        with ledger.read(self._engine) as connection:
            found = connection.execute(query).scalar()
        return None if found is None else str(found)

    def left(self) -> Left:
        """What the relay has taken of the plan of a day and a month. Raises `StoreError`."""
        if self._left is None:
            with ledger.read(self._engine) as connection:
                self._left = _left(connection)
        return self._left

    def works(self) -> bool:
        """Whether the ledger can be written to at all."""
        nothing = delete(schema.checkpoint).where(schema.checkpoint.c.source == "")
        try:
            with ledger.write(self._engine) as connection:
                connection.execute(nothing)
        except StoreError:
            return False
        return True

    def takes(self, entries: Sequence[Entry]) -> bool:
        """Whether `record` would do it: it is done, and undone."""
        try:
            self.record(entries, _undo=True)
        except _Undo:
            return True
        except Exception:
            log.debug("not taken", exc_info=True)
            return False
        return True

    def record(
        self, entries: Sequence[Entry], positions: Mapping[str, str] = {}, *, _undo: bool = False
    ) -> None:
        """All of it, or on an error nothing. Raises `StoreError`."""
        try:
            with ledger.write(self._engine) as connection:
                self._connection, self._leaving = connection, []
                left = self._left or _left(connection)
                self._rows.begin(connection, (entry.queue_id for entry in entries))
                for entry in entries:
                    _RECORD[type(entry)](self, entry)
                self._rows.write(connection)
                if self._listener is not None and self._changes:
                    self._listener(connection, self._changes)
                if self._leaving:
                    left = left.with_more(self._leaving)
                    positions = {**positions, LEFT: left.text()}
                _keep(connection, positions)
                if _undo:
                    raise _Undo
        except BaseException:
            self._rows = Rows()  # what is in memory is not what is in the ledger
            raise
        finally:
            self._changes, self._connection = [], None
        self._left = left
        self._rows.written()
        relayed_to = (each for each in entries if isinstance(each, Attempt) and each.service.endswith("smtp"))
        self.replies.update(_code(each.words) for each in relayed_to)
        if len(self._rows.open) > _MOST_OPEN:
            self._rows = Rows()

    # -- by kind of entry

    def _handed(self, entry: Handed) -> None:
        message = self._rows.message(entry.queue_id, entry.time)
        message.fill("client", entry.client)
        if entry.login:
            message.fill("login", entry.login)

    def _named(self, entry: Named) -> None:
        self._rows.message(entry.queue_id, entry.time).fill("message_id", entry.message_id)

    def _active(self, entry: Active) -> None:
        message = self._rows.message(entry.queue_id, entry.time)
        message.set("sender", entry.sender.lower())  # the gate may have changed it
        message.fill("size", entry.size)

    def _attempt(self, entry: Attempt) -> None:
        words = entry.words.removesuffix(")")
        state = states.of_attempt(entry.service, entry.status, words)
        if state is None:
            return
        message = self._rows.message(entry.queue_id, entry.time)
        recipient = self._reached(message, entry.address, state, entry.time)
        recipient.set("dsn", entry.dsn)
        recipient.set("words", words)
        if recipient.values["state"] == State.DEFERRED:
            least, most = _BACKOFF
            waited = entry.time - message.values["arrived"]
            recipient.set("next_try", entry.time + min(max(waited, least), most))
        if entry.original:
            recipient.fill("original", entry.original.lower())
            _replaced(message, entry.original.lower())
        self._rows.attempt(recipient, entry.time, state, entry.host, entry.dsn, words)
        if state is State.ACCEPTED:
            self._leaving.append((entry.time, emails(message.values["size"])))

    def _noticed(self, entry: Noticed) -> None:
        self._rows.message(entry.notice, entry.time).fill("parent", entry.queue_id)

    def _expired(self, entry: Expired) -> None:
        message = self._rows.message(entry.queue_id, entry.time)
        for address, recipient in list(message.recipients.items()):
            if not recipient.gone and recipient.values["state"] in states.UNSETTLED:
                self._reached(message, address, State.EXPIRED, entry.time)

    def _removed(self, entry: Removed) -> None:
        message = self._rows.message(entry.queue_id, entry.time)
        message.set("removed", entry.time)
        for address in list(message.recipients):  # an alias, or named twice: others stand for it
            _replaced(message, address)

    def _rejected(self, entry: Rejected) -> None:
        """What the gate refuses it says itself; of what Postfix refuses, only our own people's mail is of interest."""
        if entry.by_gate or not entry.service.startswith("submission"):
            return
        message = self._rows.message(entry.queue_id, entry.time)
        message.fill("client", entry.client)
        message.fill("sender", entry.sender.lower())
        message.fill("words", entry.words)
        if entry.recipient:
            recipient = self._reached(message, entry.recipient, State.REFUSED, entry.time)
            recipient.set("words", entry.words)
        if not entry.queue_id:
            message.set("removed", entry.time)

    def _decided(self, entry: Decided) -> None:
        message = self._rows.message(entry.queue_id, entry.time)
        message.set("gate", entry.decision)
        for name in ("login", "client", "message_id"):
            message.fill(name, getattr(entry, name) or None)
        message.fill("sender", entry.sender.lower())
        message.fill("size", entry.size or None)
        message.fill("subject", entry.subject)
        if entry.decision == "passed":
            self._queued(message, entry)
            return
        message.set("rule", entry.rule)
        message.set("words", entry.words)
        for address in entry.recipients:
            self._reached(message, address, State.REFUSED, entry.time).set("words", entry.words)
        message.set("removed", entry.time)

    def _told(self, entry: Told) -> None:
        """What the relay accepted and then could not deliver, or what the recipient did not want."""
        state = _OF_REASON.get(entry.reason)
        if state is None or self._connection is None:
            return
        cause = relayed.cause(self._connection, entry, state)
        for found in self._rows.read_messages(self._connection, cause):
            self._rows.touch(found)
            reached = self._reached(found, entry.address, state, entry.time, entry.detail, entry.source)
            self._rows.attempt(reached, entry.time, state, entry.source, "", entry.detail)

    def _heard(self, entry: Heard) -> None:
        """What the relay's own log says of what it accepted."""
        connection = self._connection
        if connection is None or relayed.is_known(connection, entry):
            return
        found = relayed.find(connection, entry)
        relayed.keep(connection, entry, waits=found is relayed.Match.LATER)
        if isinstance(found, relayed.Match):
            return
        state = relayed.OF_ACTION[entry.action]
        for message in self._rows.read_messages(connection, [found]):
            self._rows.touch(message)
            known = message.recipients.get(entry.address)
            before = known.values["state"] if known else ""
            reached = self._reached(message, entry.address, state, entry.time, entry.words, entry.host)
            if reached.values["state"] != before:
                self._rows.attempt(reached, entry.time, state, entry.host, "", entry.words)

    def _queued(self, message: MessageRow, entry: Decided) -> None:
        """To whom it is on its way, as far as the log has not said it yet."""
        if message.values["removed"] is not None:
            return
        told = {*message.recipients, *(row.values["original"] for row in message.recipients.values())}
        for address in entry.recipients:
            if address.lower() not in told:
                self._reached(message, address, State.QUEUED, entry.time)

    def _reached(
        self, message: MessageRow, address: str, state: State, moment: float, words: str = "", host: str = ""
    ) -> Row:
        recipient, is_new = self._rows.recipient(message, address, state, moment)
        before = None if is_new else State(recipient.values["state"])
        now = states.after(before, state)
        if now is not before:
            recipient.set("state", str(now))
            recipient.set("since", moment)
            recipient.set("next_try", None)
            if words:
                recipient.set("words", words)
            self._changes.append(Changed(message, recipient, before, now, moment, host))
        return recipient


def _code(words: str) -> str:
    """Of the reply in these words, which may be quoted in Postfix' own ("host X said: 455 ...")."""
    found = _REPLY.search(words)
    return found[1] if found else ""


def _replaced(message: MessageRow, address: str) -> None:
    """What was only on its way there goes by another name, which has a row of its own."""
    row = message.recipients.get(address)
    if row is not None and row.values["state"] == State.QUEUED:
        row.gone = True


def _keep(connection: Connection, positions: Mapping[str, str]) -> None:
    if positions:
        sources = schema.checkpoint.c.source.in_(list(positions))
        connection.execute(delete(schema.checkpoint).where(sources))
        rows = [{"source": source, "position": position} for source, position in positions.items()]
        connection.execute(insert(schema.checkpoint), rows)


def _left(connection: Connection) -> Left:
    """As it was kept; from the attempts themselves, where it never was."""
    checkpoint, attempt, recipient, message = (
        schema.checkpoint,
        schema.attempt,
        schema.recipient,
        schema.message,
    )
    kept = connection.execute(select(checkpoint.c.position).where(checkpoint.c.source == LEFT)).scalar()
    if kept is not None:
        try:
            return Left.of(kept)
        except ValueError:
            log.error("what has left cannot be understood: it is counted anew")
    query = (
        select(attempt.c.time, message.c.size)
        .join(recipient, recipient.c.id == attempt.c.recipient)
        .join(message, message.c.id == recipient.c.message)
        .where(attempt.c.state == State.ACCEPTED)
    )
    return Left().with_more((row.time, emails(row.size)) for row in connection.execute(query))


_RECORD: dict[type, Callable[[Recorder, Any], None]] = {
    Handed: Recorder._handed,
    Named: Recorder._named,
    Active: Recorder._active,
    Attempt: Recorder._attempt,
    Noticed: Recorder._noticed,
    Expired: Recorder._expired,
    Removed: Recorder._removed,
    Rejected: Recorder._rejected,
    Decided: Recorder._decided,
    Told: Recorder._told,
    Heard: Recorder._heard,
}
