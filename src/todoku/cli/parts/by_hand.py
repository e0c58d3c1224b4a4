"""What a person has to enter, told once while `todoku apply` goes on looking, and then how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from todoku.plan.events import Done, Event, Outcome, Unchanged, Waits

if TYPE_CHECKING:
    from todoku.plan.resource import Entry

Report = Callable[[Event], None]


class News:
    """Lets each event through only when it is news: round after round most of them are the same."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last: dict[str, Event] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Waits(name):
                known = replace(event, change=None)  # that it was begun again is no news
                if self._last.get(name) == known:
                    return
                self._last[name] = known
            case Unchanged(name) | Done(name):
                before = self._last.get(name)
                self._last[name] = Unchanged(name)
                if isinstance(event, Unchanged) and before == Unchanged(name):
                    return
        self._report(event)


class Entries:
    """What is to be entered by hand, out of one outcome after the other; told in the `order` of the plan."""

    def __init__(self, say: Callable[[str], None], order: Iterable[str] = ()) -> None:
        self._say = say
        self._order = {name: place for place, name in enumerate(order)}
        self._told: dict[str, str] = {}  # id -> its instructions
        self._left: list[str] = []

    def after(self, outcome: Outcome) -> None:
        """Tell what is new to be entered, each record in both forms and all as a zone file; else the progress."""
        waits = {one.id: one for one in self._ordered(outcome)}
        new = [
            one for one in waits.values() if one.entry is not None and self._told.get(one.id) != one.reason
        ]
        left = [name for name in {**self._told, **{one.id: one.reason for one in new}} if name in waits]
        if new:
            self._tell(new)
        elif left != self._left:
            seen, of = len(self._told) - len(left), len(self._told)
            still = f"; still waiting for {', '.join(left)}" if left else ""
            self._say(f"{seen} of {of} records that are entered by hand can be seen{still}")
        self._left = left

    def shortened(self, outcome: Outcome) -> Outcome:
        """The outcome without repeating at length what has been told."""
        waits = tuple(
            replace(one, reason=one.reason.partition("\n")[0].rstrip(":")) if one.id in self._told else one
            for one in self._ordered(outcome)
        )
        return replace(outcome, waits=waits)

    def _ordered(self, outcome: Outcome) -> list[Waits]:
        last = len(self._order)
        return sorted(outcome.waits, key=lambda one: self._order.get(one.id, last))

    def _tell(self, waits: list[Waits]) -> None:
        self._told |= {one.id: one.reason for one in waits}
        self._say("")
        for one in waits:
            self._say(one.reason)
        by_place: dict[str, list[Entry]] = {}
        for one in waits:
            if one.entry is not None:
                by_place.setdefault(one.entry.place, []).append(one.entry)
        for place, entries in by_place.items():
            self._say(f"\nThe same as a zone file:\n$ORIGIN {place}.")
            for entry in entries:
                for line in entry.lines:
                    self._say(line)
        self._say("")
