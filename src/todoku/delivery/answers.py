"""Answers the gate's question whether Postfix has a message (`todoku.gate.asked`): one that it gave to Postfix, and was
killed before it heard whether Postfix took it.

"Yes" as soon as the message is in the queue, or the ledger knows that it was delivered or left the queue. "No" only if
neither is so twice, seconds apart, after Postfix had the time to finish what it was at, and with the whole log read:
what was in the queue, and left it before the first look, is in the log before the second. "No" may be wrong where lines
of the log were lost (a kill of everything, a power cut): then a message is doubled, which is better than to lose one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine, or_, select

from todoku.delivery import queue
from todoku.store import ledger
from todoku.store import ledger_schema as schema

log = logging.getLogger("todoku.agent")

SETTLED = 10.0  # seconds after which Postfix has finished writing what it was given, or never will
BETWEEN = 3.0  # seconds between the two looks
EVERY = 1.0
_KEPT = 5 * 86400.0  # seconds that an answer waits for who asked
_ASKED, _YES, _NO = ".asked", ".yes", ".no"


class Answers:
    """A task of the agent's. `all_read`: whether what was in the sources is in the ledger; the others are for tests."""

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        all_read: Callable[[], bool],
        waiting: Callable[[], Sequence[queue.Waiting]] = queue.waiting,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._folder, self._all_read = engine, folder, all_read
        self._waiting, self._clock = waiting, clock
        self._missed: dict[str, float] = {}  # queue ID -> when it was found nowhere for the first time

    def __call__(self) -> None:
        """Raises OSError, also while Postfix does not say what is in its queue, and StoreError."""
        now, asked = self._clock(), {}
        for path in self._folder.glob("queued-*"):
            with suppress(FileNotFoundError):
                age = now - path.stat().st_mtime
                if age > _KEPT:
                    path.unlink()
                elif path.suffix == _ASKED:
                    asked[path.stem.removeprefix("queued-")] = age
        self._missed = {each: since for each, since in self._missed.items() if each in asked}
        if not asked:
            return
        in_queue = {each.queue_id for each in self._waiting()}
        known = in_queue | self._left(list(asked))
        for queue_id, age in asked.items():
            if queue_id in known:
                self._answer(queue_id, _YES)
            elif (
                age >= SETTLED
                and now - self._missed.setdefault(queue_id, now) >= BETWEEN
                and self._all_read()
            ):
                self._answer(queue_id, _NO)

    def _left(self, queue_ids: Sequence[str]) -> set[str]:
        """Those of which the ledger says that they were in the queue: something became of them."""
        message, recipient, attempt = schema.message, schema.recipient, schema.attempt
        tried = (
            select(attempt.c.id)
            .join(recipient, recipient.c.id == attempt.c.recipient)
            .where(recipient.c.message == message.c.id)
        )
        query = select(message.c.queue_id).where(
            message.c.queue_id.in_(queue_ids), or_(message.c.removed.is_not(None), tried.exists())
        )
        with ledger.read(self._engine) as connection:
            return {str(each) for each in connection.execute(query).scalars()}

    def _answer(self, queue_id: str, answer: str) -> None:
        asked = self._folder / f"queued-{queue_id}{_ASKED}"
        with suppress(FileNotFoundError):  # who asked needs no answer any more
            asked.rename(asked.with_suffix(answer))
        log.info("Postfix %s %s: the gate asked", "has" if answer == _YES else "has not", queue_id)
