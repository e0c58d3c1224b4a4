"""What `apply` tells while it runs, and its outcome."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from todoku.plan.resource import Change


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
class NotTried:
    """The resource was not touched, because of a failure elsewhere or because the run was stopped."""

    id: str
    because: str


Event: TypeAlias = Started | Waiting | Done | Unchanged | Failed | NotTried


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of every resource, each list in the order in which it happened."""

    done: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    stopped: bool = False  # somebody asked to stop
    abandoned: bool = False  # at once, without waiting: threads may still be running
    bugs: tuple[BaseException, ...] = field(default=(), compare=False)

    @staticmethod
    def of(
        ended: Sequence[Done | Unchanged | Failed | NotTried],
        *,
        stopped: bool = False,
        abandoned: bool = False,
        bugs: Sequence[BaseException] = (),
    ) -> Outcome:
        """The outcome of a run that ended with these events."""
        return Outcome(
            done=tuple(event.id for event in ended if isinstance(event, Done)),
            unchanged=tuple(event.id for event in ended if isinstance(event, Unchanged)),
            failed=tuple(event for event in ended if isinstance(event, Failed)),
            not_tried=tuple(event for event in ended if isinstance(event, NotTried)),
            stopped=stopped,
            abandoned=abandoned,
            bugs=tuple(bugs),
        )

    @property
    def ok(self) -> bool:
        """Everything is in place."""
        return not self.failed and not self.not_tried

    @property
    def ids(self) -> Set[str]:
        """Every resource that the outcome speaks of."""
        failed = {one.id for one in self.failed}
        return failed.union(self.done, self.unchanged, (one.id for one in self.not_tried))

    def then(self, later: Outcome) -> Outcome:
        """This outcome followed by that of the next stage."""
        return replace(
            later,
            done=self.done + later.done,
            unchanged=self.unchanged + later.unchanged,
            failed=self.failed + later.failed,
            not_tried=self.not_tried + later.not_tried,
            bugs=self.bugs + later.bugs,
        )

    def raise_bug(self) -> None:
        """Raise the first error of our own, if there was one: after the outcome has been told."""
        if self.bugs:
            raise self.bugs[0]
