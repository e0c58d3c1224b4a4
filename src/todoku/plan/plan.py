"""The plan: every resource looked up, and what would have to change, in the order in which it would.

Making a plan changes nothing. Look-ups run at the same time (they wait for disks, daemons and networks);
what follows from them is computed in order, because a resource may change only because one that it watches
does.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from todoku.plan.journal import Journal
from todoku.plan.order import PlanError, needs_of, ordered
from todoku.plan.resource import Action, Change, Item, LookFailed
from todoku.plan.trouble import explain

__all__ = ["WORKERS", "Plan", "PlanError", "Step", "make"]

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
        steps[item.resource.id] = _step(item, seen[item.resource.id], pending, journal)
    return Plan(tuple(steps.values()))


@dataclass(frozen=True, slots=True)
class _Unseen:
    reason: str


def _look_at(items: Sequence[Item]) -> dict[str, Any]:
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="look")
    try:
        return {item.resource.id: seen for item, seen in zip(items, pool.map(_look, items), strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)  # when one look-up shows an error of ours, or on Ctrl-C


def _look(item: Item) -> Any:
    try:
        return item.resource.look(item.client)
    except (LookFailed, OSError) as error:
        return _Unseen(explain(error))


def _step(item: Item, seen: Any, pending: Set[str], journal: Journal) -> Step:
    resource = item.resource
    needs = needs_of(item)
    change: Change | None
    known, problem = True, ""
    if not isinstance(seen, _Unseen):
        change = resource.differ(seen)
        by = (resource.watches & pending) | journal.owed(resource.id, resource.watches)
        if change is None and by:
            change = resource.triggered(by)
    elif needs & pending:
        # The service manager says nothing about a service whose package is not installed yet.
        known = False
        change = Change(Action.UPDATE, "known after apply", f"cannot be looked up yet: {seen.reason}")
    else:
        change, problem = None, seen.reason
    return Step(resource.id, resource.why, change, tuple(sorted(needs)), known, problem)
