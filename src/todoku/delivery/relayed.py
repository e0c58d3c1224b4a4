"""Which recipient of which message a record of the relay's log is about; and that each record counts once.

The relay's log is not in step with ours: it may be heard of before Postfix' own line is in the ledger. Then the record
is kept, and matched later. So is one about a message that the ledger believes to be in the queue still: the relay took
it, and its answer got lost; Postfix will hand it over again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum, auto

from sqlalchemy import Connection, Engine, exists, insert, select, update

from todoku.delivery import relay_log
from todoku.delivery.entries import Heard, Told
from todoku.delivery.rows import clean
from todoku.delivery.states import UNSETTLED, State
from todoku.store import ledger
from todoku.store import ledger_schema as schema

CLOCKS = 60.0  # seconds that the relay's clock may differ from ours
TRIES = 5 * 86_400.0  # seconds for which a relay may go on trying
PATIENCE = 86_400.0  # seconds that a record waits for its message
OF_ACTION = {
    "relay": State.RELAYED,
    "bounce": State.BOUNCED,
    relay_log.SOFT_BOUNCE: State.EXPIRED,
    "complaint": State.COMPLAINED,
    "suppressed": State.SUPPRESSED,
}
_OPEN = (State.ACCEPTED, State.RELAYED, State.EXPIRED)  # the relay may know better than that it was given up
_AT_ONCE = 500


class Match(Enum):
    """What a record is good for when it names no message to change."""

    LATER = auto()  # not in the ledger yet, or not handed over yet
    NOTHING = auto()  # it is known already


def find(connection: Connection, entry: Heard) -> int | Match:
    """The message (its number) whose recipient has come that far."""
    message, recipient = schema.message, schema.recipient
    query = (
        select(message.c.id, recipient.c.state)
        .join(recipient, recipient.c.message == message.c.id)
        .where(recipient.c.address == entry.address)
        .where(message.c.arrived <= entry.time + CLOCKS)
        .where(message.c.arrived >= entry.time - TRIES - CLOCKS)
        .order_by(message.c.id)
    )
    if entry.message_id:
        query = query.where(message.c.message_id.in_((f"<{entry.message_id}>", entry.message_id)))
    elif entry.action == "suppressed":
        # Said while the message was handed over, before it had told its Message-ID: an earlier one is not meant.
        query = query.where(recipient.c.since.between(entry.time - CLOCKS, entry.time + CLOCKS))
    found = connection.execute(query.limit(_AT_ONCE)).all()
    # The same Message-ID may have been sent twice: the first that nothing is known of, then the latest.
    for wanted in _OPEN:
        numbers = [row.id for row in found if row.state == wanted]
        if numbers:
            return int(numbers[0] if wanted is State.ACCEPTED and entry.message_id else numbers[-1])
    if not found or any(row.state in UNSETTLED for row in found):
        return Match.LATER
    return Match.NOTHING


def cause(connection: Connection, entry: Told, state: State) -> list[int]:
    """The message (its number) of which the relay's suppression list says that it came to that `state`, if any did.

    The list is read again and again. Where it does not name the message, it is the latest that the relay had taken; and
    if that is known to have failed, it is accounted for, and no earlier one is meant.
    """
    message, recipient, attempt = schema.message, schema.recipient, schema.attempt
    accepted = (State.ACCEPTED, State.RELAYED)
    query = (
        select(message.c.id, recipient.c.state)
        .join(recipient, recipient.c.message == message.c.id)
        .where(recipient.c.address == entry.address)
        .where(message.c.arrived <= entry.time + CLOCKS)
        .order_by(message.c.id.desc())
        .limit(1)
    )
    if entry.message_id:
        query = query.where(message.c.message_id.in_((f"<{entry.message_id}>", entry.message_id)))
        query = query.where(recipient.c.state.in_(accepted))
    else:
        failed = (state,) if state is State.COMPLAINED else (State.BOUNCED, State.EXPIRED)
        taken = exists().where(attempt.c.recipient == recipient.c.id, attempt.c.state == State.ACCEPTED)
        query = query.where(message.c.arrived >= entry.time - TRIES, taken)
        query = query.where(recipient.c.state.in_((*accepted, *failed)))
    return [int(row.id) for row in connection.execute(query) if row.state in accepted]


def is_known(connection: Connection, entry: Heard) -> bool:
    """Whether this record has been dealt with."""
    line = schema.relay_line
    found = connection.execute(select(line.c.content).where(line.c.id == _key(entry))).first()
    return found is not None and found.content is None


def keep(connection: Connection, entry: Heard, *, waits: bool) -> None:
    """Notes that the record was heard of; with what it says, as long as it waits for its message."""
    line, key = schema.relay_line, _key(entry)
    known = connection.execute(select(line.c.heard).where(line.c.id == key)).scalar()
    if known is None:
        content = relay_log.written(entry) if waits else None
        connection.execute(insert(line).values(id=key, heard=time.time(), content=content))
    elif not waits or time.time() - known > PATIENCE:
        connection.execute(update(line).where(line.c.id == key).values(content=None))


def _key(entry: Heard) -> str:
    return clean(entry.id)[:250]


class Waiting:
    """The records that wait for their message, a piece at a time, over and over."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._after = ""

    def next(self) -> Sequence[Heard]:
        """Raises `StoreError`."""
        line = schema.relay_line
        query = select(line.c.id, line.c.content).where(line.c.content.is_not(None), line.c.id > self._after)
        with ledger.read(self._engine) as connection:
            rows = connection.execute(query.order_by(line.c.id).limit(_AT_ONCE)).all()
        self._after = rows[-1].id if len(rows) == _AT_ONCE else ""
        return [relay_log.kept(row.content) for row in rows]
