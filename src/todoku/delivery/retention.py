"""What is older than it may be is removed from the ledger: in small pieces, so that nobody waits for it."""

from __future__ import annotations

import time

from sqlalchemy import Engine, delete, select

from todoku.store import ledger
from todoku.store import ledger_schema as schema

_LINES = 3 * 86_400.0  # seconds that it is remembered which records of the relay's log were read
_AT_ONCE = 2000  # messages in one transaction
DAY = 86_400.0


def forget(engine: Engine, before: float) -> int:
    """Removes the messages that arrived before then, with all that belongs to them; how many. Raises `StoreError`.

    What still waits in the queue stays until it is settled.
    """
    message, recipient = schema.message, schema.recipient
    waiting = select(recipient.c.message).where(recipient.c.state.in_(("queued", "deferred")))
    old = (
        select(message.c.id)
        .where(message.c.arrived < before)
        .where(message.c.removed.is_not(None) | message.c.id.not_in(waiting))
        .limit(_AT_ONCE)
    )
    with ledger.write(engine) as connection:
        # A record that is read again meets a state that it does not change any more.
        lines = schema.relay_line
        connection.execute(delete(lines).where(lines.c.heard < time.time() - _LINES))
        told = schema.notice.c.state.in_(("sent", "refused"))
        connection.execute(delete(schema.notice).where(told, schema.notice.c.created < before))
    forgotten = 0
    while True:
        with ledger.write(engine) as connection:
            numbers = list(connection.execute(old).scalars())
            if numbers:
                connection.execute(delete(message).where(message.c.id.in_(numbers)))
        forgotten += len(numbers)
        if len(numbers) < _AT_ONCE:
            return forgotten
