"""The plan: every resource looked up, and what would have to change, in the order in which it would.

Making a plan changes nothing. Look-ups run at the same time (they wait for disks, daemons and networks);
what follows from them is computed in order, because a resource may change only because one that it watches
does.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from todoku.plan.journal import Journal
from todoku.plan.order import PlanError, needs_of, ordered
from todoku.plan.resource import Action, Change, Impossible, Item, LookFailed, NotYet
from todoku.plan.trouble import explain

__all__ = ["WORKERS", "Plan", "PlanError", "Step", "make"]

NOT_YET = "cannot be looked up yet: "  # before the reason
WORKERS = 8  # look-ups and changes at the same time


@dataclass(frozen=True, slots=True)
class Step:
    """One resource in the plan."""

    id: str
    why: str
    change: Change | None
    needs: tuple[str, ...] = ()
    known: bool = True  # False: what it will be is known only after its needs are in place
    problem: str = ""  # why the present state could not be read; then `change` is None
    waits: str = ""  # what is waited for, here or in what this one needs; then `change` is None


@dataclass(frozen=True, slots=True)
class Plan:
    """All resources in the order in which they would be applied."""

    steps: tuple[Step, ...]

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that would change something."""
        return tuple(step for step in self.steps if step.change is not None)

    @property
    def problems(self) -> tuple[Step, ...]:
        """The steps whose present state could not be read: with any, the plan is incomplete."""
        return tuple(step for step in self.steps if step.problem)

    @property
    def waiting(self) -> tuple[Step, ...]:
        """The steps for which only time is lacking."""
        return tuple(step for step in self.steps if step.waits)

    @property
    def empty(self) -> bool:
        """Everything was looked up and nothing would change."""
        return not self.changes and not self.problems


def make(items: Sequence[Item], journal: Journal | None = None) -> Plan:
    """The plan for `items`. Raises PlanError when they cannot be put in order.

    `journal` knows the changes of earlier, unfinished runs that watchers have still to follow.
    """
    order = ordered(items)
    seen = _look_at(order)
    journal = journal or Journal()
    steps: dict[str, Step] = {}
    for item in order:
        pending = {name for name, step in steps.items() if step.change is not None}
        waiting = {name for name, step in steps.items() if step.waits}
        step = _step(item, seen[item.resource.id], pending, journal)
        steps[item.resource.id] = _postponed(step, waiting) if step.change else step
    return Plan(tuple(steps.values()))


def _postponed(step: Step, waiting: Set[str]) -> Step:
    """`step`, without its change when something that it needs waits."""
    lacking = sorted(waiting & set(step.needs))
    return replace(step, change=None, waits=f"needs {lacking[0]}, which is not ready") if lacking else step


@dataclass(frozen=True, slots=True)
class _Unseen:
    reason: str
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class _Waits:
    reason: str


def _look_at(items: Sequence[Item]) -> dict[str, Any]:
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="look")
    looks: dict[str, Future[Any]] = {}
    try:
        for item in _readable(items):
            looks[item.resource.id] = pool.submit(_look, item, [looks[name] for name in item.resource.reads])
        return {name: look.result() for name, look in looks.items()}
    finally:
        pool.shutdown(cancel_futures=True)  # when one look-up shows an error of ours, or on Ctrl-C


def _readable(items: Sequence[Item]) -> list[Item]:
    """`items` so that whoever waits for what another tells has that one running or done before it."""
    by_id = {item.resource.id: item for item in items}
    unknown = sorted({name for item in items for name in item.resource.reads} - by_id.keys())
    if unknown:
        raise PlanError(f"{', '.join(unknown)} would be read, which no resource provides")
    try:
        order = TopologicalSorter({name: item.resource.reads for name, item in by_id.items()}).static_order()
        return [by_id[name] for name in order]
    except CycleError as error:
        raise PlanError(
            f"these resources read each other in a circle: {' -> '.join(error.args[1])}"
        ) from error


def _look(item: Item, first: Sequence[Future[Any]]) -> Any:
    wait(first)
    try:
        return item.resource.look(item.client)
    except NotYet as later:
        return _Waits(str(later))
    except (LookFailed, OSError) as error:
        return _Unseen(explain(error), isinstance(error, Impossible))


def _step(item: Item, seen: Any, pending: Set[str], journal: Journal) -> Step:
    resource = item.resource
    needs = needs_of(item)
    change: Change | None
    known, problem = True, ""
    if isinstance(seen, _Waits):
        return Step(resource.id, resource.why, None, tuple(sorted(needs)), waits=seen.reason)
    if not isinstance(seen, _Unseen):
        change = resource.differ(seen)
        by = (resource.watches & pending) | journal.owed(resource.id, resource.watches)
        if change is None and by:
            change = resource.triggered(by)
    elif needs & pending and not seen.for_good:
        # The service manager says nothing about a service whose package is not installed yet.
        known = False
        change = Change(Action.UPDATE, "known after apply", f"{NOT_YET}{seen.reason}")
    else:
        change, problem = None, seen.reason
    return Step(resource.id, resource.why, change, tuple(sorted(needs)), known, problem)
