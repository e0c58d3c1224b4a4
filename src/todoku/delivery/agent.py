"""What goes on in the background: the sources are read into the ledger, and tasks are done from time to time.

One thread, one loop. What was read since the last commit is committed together, at most once a second when there is
a steady stream: a commit waits for the disk, not the messages. What cannot be written now (a full disk, a database
that is away) is kept and tried again, and no more is read meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from todoku.delivery.entries import Entry
from todoku.delivery.record import Recorder
from todoku.delivery.sources import Source
from todoku.store import StoreError

log = logging.getLogger("todoku.agent")

PAUSE = 0.5  # seconds between two looks at the sources
_MOST = 5000  # entries in one transaction
_PATIENCE = 5.0  # seconds before what failed is tried again


@dataclass(slots=True)
class Task:
    """Something to do every so many seconds. What it raises is told in the log, and it is done again."""

    name: str
    every: float
    do: Callable[[], None]
    due: float = 0.0
    failing: str = field(default="", compare=False)


class Agent:
    """`stop` may be called from a signal handler."""

    def __init__(
        self,
        recorder: Recorder,
        sources: Sequence[Source],
        tasks: Sequence[Task] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._recorder = recorder
        self._sources = sources
        self._tasks = list(tasks)
        self._sleep = sleep
        self._stopping = False
        self._failing: set[str] = set()

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopping:
            read = self.read_once()
            self._do_tasks()
            if not self._stopping:
                self._sleep(0.0 if read >= _MOST else PAUSE)

    def read_once(self) -> int:
        """Reads what the sources have now, up to a bound, and commits it; how many entries."""
        entries: list[Entry] = []
        positions: dict[str, str] = {}
        for source in self._sources:
            before = source.position
            entries += self._read(source, _MOST - len(entries))
            if source.position != before:
                positions[source.name] = source.position
        if positions:
            self._commit(entries, positions)
        return len(entries)

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

    def _commit(self, entries: Sequence[Entry], positions: dict[str, str]) -> None:
        while True:
            try:
                self._recorder.record(entries, positions)
            except StoreError as error:
                log.error("nothing can be written: %s", error)
                if self._stopping:
                    return  # it will be read again
                self._sleep(_PATIENCE)
            else:
                break
        for source in self._sources:
            if source.name in positions:
                source.committed()

    def _do_tasks(self) -> None:
        now = time.monotonic()
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
