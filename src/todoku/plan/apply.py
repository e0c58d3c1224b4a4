"""Apply: put right what differs, each resource after its needs, independent ones at the same time.

Nothing from an earlier plan is trusted: every resource is looked at again right before it is changed, and
once more afterwards, when it must no longer differ. At the first failure, or when asked to stop, what is
running ends and nothing new starts. Applying again at any time is safe and continues where it stopped.

Workers only put events into a queue; the calling thread takes them out, reports them and decides what starts
next, so `report` is never called twice at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Event as Flag

from todoku.plan.events import (
    Done,
    Ending,
    Event,
    Failed,
    NotTried,
    Outcome,
    Started,
    Unchanged,
    Waiting,
    Waits,
)
from todoku.plan.journal import Journal
from todoku.plan.order import needs_of, ordered
from todoku.plan.plan import WORKERS
from todoku.plan.resource import ByHand, Change, ChangeFailed, Item, NeedsPerson, NotYet
from todoku.plan.trouble import EXPECTED, explain

__all__ = ["INTERRUPTED", "apply"]

INTERRUPTED = "interrupted"  # the reason why something was not tried


def apply(
    items: Sequence[Item],
    report: Callable[[Event], None],
    *,
    stop: Flag | None = None,
    journal: Journal | None = None,
    in_place: Set[str] = frozenset(),
    remind: float = 10.0,
) -> Outcome:
    """Apply `items` and return what became of each of them.

    `report` is called in the calling thread, with a `Waiting` after every `remind` seconds in which nothing
    else happened. Setting `stop` lets the running steps end and starts no new ones; KeyboardInterrupt
    returns at once (`Outcome.abandoned`). `in_place` are the ids that earlier stages have put in place.
    Raises PlanError before anything is changed. An error of our own does not raise here: the outcome has to
    be told first, then `Outcome.raise_bug()` raises it.
    """
    return _Run(ordered(items, in_place), report, stop or Flag(), journal or Journal(), in_place).run(remind)


class _Run:
    """One run of `apply`. Everything but `_work` and what it calls belongs to the calling thread."""

    def __init__(
        self,
        items: Sequence[Item],
        report: Callable[[Event], None],
        stop: Flag,
        journal: Journal,
        in_place: Set[str],
    ) -> None:
        self.report = report
        self.stop = stop
        self.failed = Flag()
        self.journal = journal
        self.waiting = {item.resource.id: item for item in items}
        self.order = {name: number for number, name in enumerate(self.waiting)}
        self.running: dict[str, float] = {}  # id -> when it began
        self.in_place = set(in_place)
        self.not_ready: dict[str, Waits] = {}  # ended, but only time, or a person, will put them in place
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.ended: list[Ending] = []
        self.bugs: list[BaseException] = []
        self.pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="apply")

    def run(self, remind: float) -> Outcome:
        abandoned = False
        try:
            self._start_what_is_ready()
            while self.running:
                self._take_one_event(remind)
                self._start_what_is_ready()
        except KeyboardInterrupt:
            abandoned = True
            self._abandon_what_runs()
        finally:
            # Also when `report` raised (standard output is gone): what runs may end, nothing new starts.
            self.failed.set()
            self.pool.shutdown(wait=not abandoned, cancel_futures=True)
        for name, item in self.waiting.items():
            self._end(NotTried(name, self._why_not(item)))
        # They ended side by side: what waits is told in the plan's order all the same, causes first.
        ended = sorted(self.ended, key=lambda event: self.order[event.id] if isinstance(event, Waits) else -1)
        return Outcome.of(ended, stopped=self.stop.is_set(), abandoned=abandoned, bugs=self.bugs)

    def _start_what_is_ready(self) -> None:
        for name, item in list(self.waiting.items()):
            if self._halted() or len(self.running) == WORKERS:
                return
            if needs_of(item) <= self.in_place | self.not_ready.keys():
                del self.waiting[name]
                self.running[name] = time.monotonic()
                # What a person has to see to comes first: time alone does not help then.
                lacking = sorted(
                    needs_of(item) & self.not_ready.keys(),
                    key=lambda need: (not self.not_ready[need].for_person, need),
                )
                self.pool.submit(self._run_one, item, self.not_ready[lacking[0]] if lacking else None)

    def _take_one_event(self, remind: float) -> None:
        try:
            event = self.events.get(timeout=remind)
        except Empty:
            now = time.monotonic()
            event = Waiting(tuple((name, now - began) for name, began in self.running.items()))
        if isinstance(event, Ending):
            del self.running[event.id]
            if isinstance(event, Done | Unchanged):
                self.in_place.add(event.id)
            elif isinstance(event, Waits):
                self.not_ready[event.id] = event
            self._end(event)
        else:
            self.report(event)

    def _end(self, event: Ending) -> None:
        self.ended.append(event)
        self.report(event)

    def _abandon_what_runs(self) -> None:
        for name, began in self.running.items():
            reason = "interrupted while it ran: it may be half done, and may still be running"
            self._end(Failed(name, reason, time.monotonic() - began))

    def _why_not(self, item: Item) -> str:
        """The reason why `item` was not tried: the need that is missing, or what stopped everything."""
        gone = {event.id for event in self.ended if isinstance(event, Failed)}
        lacking = sorted(needs_of(item) - self.in_place, key=lambda name: (name not in gone, name))
        if lacking:
            return f"needs {lacking[0]}"
        return f"stopped when {min(gone)} failed" if gone else INTERRUPTED

    def _halted(self) -> bool:
        return self.failed.is_set() or self.stop.is_set()

    # What follows runs in the worker threads.

    def _run_one(self, item: Item, lacking: Waits | None) -> None:
        self.events.put(self._work(item, lacking))

    def _work(self, item: Item, lacking: Waits | None) -> Ending:
        """Look, change, look again; always returns the event that ends this resource.

        Nothing is changed while one of its needs, `lacking`, is not ready.
        """
        name = item.resource.id
        began = time.monotonic()
        made: Change | None = None
        try:
            change = self._difference(item)
            if change is None:
                return Unchanged(name)
            if lacking:
                reason = f"needs {lacking.id}, which is not ready"
                return Waits(name, reason, for_person=lacking.for_person)
            if self._halted():
                because = INTERRUPTED if self.stop.is_set() else "stopped when another one failed"
                return NotTried(name, because)
            self.events.put(Started(name, change))
            made = change
            self._make(item, change)
        except ByHand as later:
            return Waits(name, str(later), entry=later.entry)
        except NotYet as later:
            return Waits(name, str(later), made, isinstance(later, NeedsPerson))
        except EXPECTED as error:
            self.failed.set()
            return Failed(name, explain(error), time.monotonic() - began)
        except BaseException as bug:
            self.failed.set()
            self.bugs.append(bug)
            return Failed(name, explain(bug), time.monotonic() - began)
        return Done(name, change, time.monotonic() - began)

    def _difference(self, item: Item) -> Change | None:
        resource = item.resource
        change = resource.differ(resource.look(item.client))
        owed = self.journal.owed(resource.id, resource.watches)
        return resource.triggered(owed) if change is None and owed else change

    def _make(self, item: Item, change: Change) -> None:
        resource = item.resource
        self.journal.changed(resource.id)  # before: if we are killed now, the watchers still follow
        resource.change(change, item.client)
        left = resource.differ(resource.look(item.client))
        if left is not None:
            raise ChangeFailed(f"did not take effect: it was changed, but still to do is: {left.summary}")
        if resource.watches:
            self.journal.followed(resource.id)
