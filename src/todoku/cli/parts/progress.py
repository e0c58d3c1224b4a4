"""What a person sees while `todoku apply` works: on a terminal the running steps with their clocks, elsewhere
plain lines, and for a program one JSON object per line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from todoku.cli.parts.context import print_json
from todoku.plan import show
from todoku.plan.events import Done, Event, Failed, NotTried, Started, Unchanged, Waiting, Waits

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

Report: TypeAlias = Callable[[Event], None]


@contextmanager
def reporting(console: Console, planned: int, *, as_json: bool) -> Iterator[Report]:
    """The function that shows each event, for as long as the block runs; `planned` changes are expected."""
    if as_json:
        yield lambda event: print_json(show.event_as_json(event))
    elif sys.stdout.isatty():
        with _progress(console) as progress:
            yield _Live(progress, planned)
    else:
        yield _Lines(console, planned)


class _Lines:
    """One line for each step that ended, and one now and then while nothing does."""

    def __init__(self, console: Console, planned: int) -> None:
        self.console = console
        self.planned = planned
        self.ended = 0
        self.waiting: set[str] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case Done(name, _, seconds):
                self.say(f"{self.number()} {name} ... done in {seconds:.1f} s")
            case Failed(name, reason, _):
                first = reason.partition("\n")[0]  # all of it follows at the end
                self.say(f"{self.number()} {name} ... FAILED: {first}")
            case Waits(name, reason, change) if change is not None:
                self.waiting.add(name)
                self.say(f"{self.number()} {name} ... begun, waiting: {reason}")
            case Waits(name):
                self.waiting.add(name)
            case Unchanged(name) if name in self.waiting:
                self.waiting.discard(name)
                self.say(f"{name} ... is in place now")
            case Waiting(running):
                steps = ", ".join(f"{name} ({seconds:.0f} s)" for name, seconds in running)
                self.say(f"... still at it: {steps}")

    def number(self) -> str:
        """The place of the step that has just ended; more may change than was planned."""
        self.ended += 1
        self.planned = max(self.planned, self.ended)
        return f"[{self.ended}/{self.planned}]"

    def say(self, line: str) -> None:
        show.say(self.console, line)


class _Live(_Lines):
    """The same lines, and below them what is running."""

    def __init__(self, progress: Progress, planned: int) -> None:
        super().__init__(progress.console, planned)
        self.progress = progress
        self.running: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Waiting():
                return  # the clocks show it
            case Started(name, change):
                text = f"{name}: {change.summary}".translate(show.VISIBLE)
                self.running[name] = self.progress.add_task(text, total=None)
            case Done(name) | Failed(name) | NotTried(name) | Waits(name) if name in self.running:
                self.progress.remove_task(self.running.pop(name))
        super().__call__(event)


def _progress(console: Console) -> Progress:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    )
