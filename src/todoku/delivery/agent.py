"""What goes on in the background: the sources are read into the ledger, and tasks are done from time to time.

One thread, one loop. What was read since the last commit is committed together, at most once a second when there is
a steady stream: a commit waits for the disk, not the messages.

What cannot be written now (a full disk, a database that is away) is kept and tried again, with growing pauses, and no
more is read meanwhile: so memory is bounded, and nothing is lost. The loop itself never waits for that. An entry that
the ledger refuses although it can be written to would stand in the way of all that follows for ever: after some tries
such an entry is looked for, told in the log, and passed over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from todoku.delivery.entries import Entry
from todoku.delivery.health import Health
from todoku.delivery.record import Recorder
from todoku.delivery.sources import Source
from todoku.store import StoreError

log = logging.getLogger("todoku.agent")

PAUSE = 0.5  # seconds between two looks at the sources
MOST = 5000  # entries in one transaction
FIRST, LONGEST = 1.0, 30.0  # seconds before what failed is tried again
TRIES = 4  # until an entry is suspected of being the cause


@dataclass(slots=True)
class Task:
    """Something to do every so many seconds. What it raises is told in the log, and it is done again."""

    name: str
    every: float
    do: Callable[[], None]
    due: float = 0.0
    failing: str = field(default="", compare=False)


@dataclass(slots=True)
class _Pending:
    """What was read and is not in the ledger yet."""

    entries: list[Entry]
    positions: dict[str, str]
    failures: int = 0
    due: float = 0.0  # monotonic seconds
    since: float = 0.0  # seconds since 1970


class Agent:
    """`stop` may be called from a signal handler."""

    def __init__(
        self,
        recorder: Recorder,
        sources: Sequence[Source],
        tasks: Sequence[Task] = (),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._sources = sources
        self._tasks = list(tasks)
        self._sleep, self._clock = sleep, clock
        self._stopping = False
        self._failing: set[str] = set()
        self._pending: _Pending | None = None
        self._error = ""
        self._lag = 0.0
        self._passed_over = 0
        self._read_last = MOST

    def add(self, task: Task) -> None:
        """One more."""
        self._tasks.append(task)

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Until `stop`. What is pending then was not committed, and is read again by the next agent."""
        while not self._stopping:
            read = self._read_last = self.read_once()
            self._do_tasks()
            if not self._stopping:
                self._sleep(0.0 if read >= MOST and self._pending is None else PAUSE)

    def all_read(self) -> bool:
        """Whether the ledger has all that the sources had a moment ago."""
        return self._pending is None and not self._failing and self._read_last < MOST

    def health(self) -> Health:
        """How it is now."""
        now, pending = time.time(), self._pending
        if pending is None:
            return Health(now, lag=self._lag, passed_over=self._passed_over)
        oldest = min((entry.time for entry in pending.entries), default=now)
        lag = max(0.0, now - oldest)
        return Health(now, self._error, pending.since, lag, len(pending.entries), self._passed_over)

    def read_once(self) -> int:
        """Reads what the sources have now, up to a bound, and commits it; how many entries."""
        if self._pending is None:
            self._pending = self._read_all()
        pending = self._pending
        if pending is None:
            return 0
        if self._clock() >= pending.due:
            self._commit(pending)
        return len(pending.entries)

    def _read_all(self) -> _Pending | None:
        entries: list[Entry] = []
        positions: dict[str, str] = {}
        for source in self._sources:
            before = source.position
            entries += self._read(source, MOST - len(entries))
            if source.position != before:
                positions[source.name] = source.position
        return _Pending(entries, positions) if positions else None

    def _read(self, source: Source, most: int) -> list[Entry]:
        entries: list[Entry] = []
        try:
            while len(entries) < most and (more := source.read()) is not None:
                entries += more
        except OSError as error:
            if source.name not in self._failing:
                log.error("the %s cannot be read: %s", source.name, error)
            self._failing.add(source.name)
        else:
            self._failing.discard(source.name)
        return entries

    def _commit(self, pending: _Pending) -> None:
        try:
            self._recorder.record(pending.entries, pending.positions)
        except (
            Exception
        ) as error:  # also a mistake of ours: an agent that ends over it would end again and again
            self._failed(pending, error)
            return
        if pending.failures:
            log.info("the ledger can be written again: %d entries were waiting", len(pending.entries))
        latest = max((entry.time for entry in pending.entries), default=None)
        self._lag = max(0.0, time.time() - latest) if latest is not None else 0.0
        self._pending, self._error = None, ""
        for source in self._sources:
            if source.name in pending.positions:
                source.committed()

    def _failed(self, pending: _Pending, error: Exception) -> None:
        pending.failures += 1
        pending.since = pending.since or time.time()
        pending.due = self._clock() + min(FIRST * 2 ** (pending.failures - 1), LONGEST)
        said = f"{'' if isinstance(error, StoreError) else type(error).__name__ + ': '}{error}"
        if said != self._error:
            log.error("nothing can be written: %s", said, exc_info=not isinstance(error, StoreError))
        self._error = said
        if pending.failures >= TRIES and self._recorder.works():
            taken = self._without_what_is_refused(pending.entries)
            if len(taken) < len(pending.entries):
                self._passed_over += len(pending.entries) - len(taken)
                pending.entries, pending.due = taken, 0.0

    def _without_what_is_refused(self, entries: list[Entry]) -> list[Entry]:
        """Those that the ledger takes, found by halving; all of them once it cannot be written to."""
        taken: list[Entry] = []
        parts = [entries]
        while parts:
            part = parts.pop()
            if not part or self._recorder.takes([*taken, *part]):
                taken += part
            elif len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            elif not self._recorder.works():
                return entries
            else:
                log.error("the ledger does not take this, and it is passed over: %.500r", part[0])
        return taken

    def _do_tasks(self) -> None:
        now = self._clock()
        for task in self._tasks:
            if now < task.due or self._stopping:
                continue
            task.due = now + task.every
            try:
                task.do()
            except Exception as error:
                if task.failing != str(error):
                    log.exception("%s failed, and will be tried again", task.name)
                task.failing = str(error)
            else:
                task.failing = ""
