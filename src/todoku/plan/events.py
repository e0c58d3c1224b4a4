"""What `apply` tells while it runs, and its outcome."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from todoku.plan.resource import Change, Entry


@dataclass(frozen=True, slots=True)
class Started:
    """The resource differs and is being changed."""

    id: str
    change: Change


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing has happened for a while; these are still running, each with its seconds so far."""

    running: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The resource was changed and does not differ any more."""

    id: str
    change: Change
    seconds: float


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The resource was as it should be."""

    id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The resource could not be looked at or changed, or the change did not take effect."""

    id: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Waits:
    """Only time is lacking: to the resource itself (after its change, if there was one) or to what it needs."""

    id: str
    reason: str
    change: Change | None = None
    for_person: bool = False  # time alone does not help
    entry: Entry | None = None  # what a person has to enter elsewhere; nothing was changed here


@dataclass(frozen=True, slots=True)
class NotTried:
    """The resource was not touched, because of a failure elsewhere or because the run was stopped."""

    id: str
    because: str


Ending: TypeAlias = Done | Unchanged | Failed | Waits | NotTried
Event: TypeAlias = Started | Waiting | Ending


def _changed(event: Ending) -> bool:
    return isinstance(event, Done) or (isinstance(event, Waits) and event.change is not None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of every resource, each list in the order in which it happened."""

    done: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    waits: tuple[Waits, ...] = ()
    stopped: bool = False  # somebody asked to stop
    abandoned: bool = False  # at once, without waiting: threads may still be running
    bugs: tuple[BaseException, ...] = field(default=(), compare=False)

    @staticmethod
    def of(
        ended: Sequence[Ending],
        *,
        stopped: bool = False,
        abandoned: bool = False,
        bugs: Sequence[BaseException] = (),
    ) -> Outcome:
        """The outcome of a run that ended with these events."""
        return Outcome(
            done=tuple(event.id for event in ended if _changed(event)),
            unchanged=tuple(event.id for event in ended if isinstance(event, Unchanged)),
            failed=tuple(event for event in ended if isinstance(event, Failed)),
            not_tried=tuple(event for event in ended if isinstance(event, NotTried)),
            waits=tuple(event for event in ended if isinstance(event, Waits)),
            stopped=stopped,
            abandoned=abandoned,
            bugs=tuple(bugs),
        )

    @property
    def ok(self) -> bool:
        """Everything is in place, or needs only time."""
        return not self.failed and not self.not_tried

    @property
    def ids(self) -> Set[str]:
        """Every resource that the outcome speaks of."""
        not_in_place = [one.id for one in self.failed] + [one.id for one in self.not_tried]
        return {*self.done, *self.unchanged, *not_in_place, *(one.id for one in self.waits)}

    def then(self, later: Outcome) -> Outcome:
        """This outcome followed by that of the next stage."""
        return replace(
            later,
            done=self.done + later.done,
            unchanged=self.unchanged + later.unchanged,
            failed=self.failed + later.failed,
            not_tried=self.not_tried + later.not_tried,
            waits=self.waits + later.waits,
            bugs=self.bugs + later.bugs,
        )

    def raise_bug(self) -> None:
        """Raise the first error of our own, if there was one: after the outcome has been told."""
        if self.bugs:
            raise self.bugs[0]
