"""Stages: what is wanted may depend on what an earlier stage has put in place.

Which syntax a configuration file needs is known for certain only once its package is installed, so each stage
is a function that is called when the one before it has been applied. The plan that is shown first is that of
all stages together, with what is known now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from threading import Event as Flag
from typing import TypeAlias

from todoku.plan.apply import INTERRUPTED, apply
from todoku.plan.events import Event, Failed, NotTried, Outcome
from todoku.plan.journal import Journal
from todoku.plan.order import ordered
from todoku.plan.plan import Plan, make
from todoku.plan.resource import Item
from todoku.plan.trouble import EXPECTED, explain

Stage: TypeAlias = Callable[[], Sequence[Item]]


def make_stages(stages: Sequence[Stage], journal: Journal | None = None) -> Plan:
    """The plan of all stages together. Raises PlanError, and LookFailed when a stage cannot be computed."""
    return make([item for stage in stages for item in stage()], journal)


def apply_stages(
    stages: Sequence[Stage],
    plan: Plan,
    report: Callable[[Event], None],
    *,
    stop: Flag | None = None,
    journal: Journal | None = None,
) -> Outcome:
    """Apply one stage after the other, up to the first that does not succeed.

    `plan` is what was shown: what it wanted and no stage came to is told as not tried.
    """
    journal = journal or Journal()
    outcome = Outcome()
    for number, stage in enumerate(stages, start=1):
        items = _compute(stage, f"stage {number}", outcome.ids)
        if isinstance(items, Outcome):
            report(items.failed[0])
            outcome = outcome.then(items)
        else:
            outcome = outcome.then(apply(items, report, stop=stop, journal=journal, in_place=outcome.ids))
        if not outcome.ok:
            return _with_what_was_not_reached(outcome, plan, report)
    journal.clear()
    return outcome


def _compute(stage: Stage, name: str, in_place: Set[str]) -> Sequence[Item] | Outcome:
    """The items of `stage`, or the outcome when there are none to be had."""
    try:
        items = stage()
        ordered(items, in_place)
    except KeyboardInterrupt:
        return Outcome(failed=(Failed(name, INTERRUPTED, 0.0),), stopped=True, abandoned=True)
    except EXPECTED as error:
        failure = Failed(name, f"what is wanted could not be computed: {explain(error)}", 0.0)
        return Outcome(failed=(failure,))
    except Exception as bug:
        return Outcome(failed=(Failed(name, explain(bug), 0.0),), bugs=(bug,))
    return items


def _with_what_was_not_reached(outcome: Outcome, plan: Plan, report: Callable[[Event], None]) -> Outcome:
    stopped = outcome.stopped or outcome.abandoned or not outcome.failed
    because = INTERRUPTED if stopped else f"stopped when {outcome.failed[0].id} failed"
    left = tuple(NotTried(step.id, because) for step in plan.changes if step.id not in outcome.ids)
    for event in left:
        report(event)
    return replace(outcome, not_tried=outcome.not_tried + left)
