"""The verdict of a rehearsal: one row per expectation, then the three words that people look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Judgement = dict[str, Any]  # as the receiving provider wrote it (docs/rehearsal.md)


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that had to hold, and what was seen instead of believed."""

    name: str
    ok: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole rehearsal."""

    expectations: tuple[Expectation, ...]
    messages: tuple[Judgement, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return all(e.ok for e in self.expectations) and bool(self.expectations)


def as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "ok": outcome.ok,
        "seconds": round(outcome.seconds, 1),
        "expectations": [asdict(e) for e in outcome.expectations],
        "messages": list(outcome.messages),
    }


def failed(reason: str) -> dict[str, Any]:
    """The JSON of a rehearsal that ended before it could play."""
    expectation = Expectation("the world can be built and todoku apply succeeds", False, reason)
    return as_json(Outcome((expectation,), (), 0.0))


def show(outcome: Outcome) -> None:
    """Print the table and the last lines to standard output."""
    console = Console(highlight=False, soft_wrap=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("expectation", overflow="fold")
    table.add_column("seen", overflow="fold")
    for e in outcome.expectations:
        table.add_row("[green]ok[/]" if e.ok else "[bold red]FAIL[/]", e.name, e.seen)
    console.print(table)
    held = sum(e.ok for e in outcome.expectations)
    console.print(f"{held} of {len(outcome.expectations)} expectations held in {outcome.seconds:.1f} s")
    console.print("  ".join(_word(name, outcome.messages) for name in ("SPF", "DKIM", "DMARC")))


def _word(name: str, messages: Sequence[Judgement]) -> str:
    passed = bool(messages) and all(passes(name.lower(), message) for message in messages)
    return f"[bold green]{name} PASS[/]" if passed else f"[bold red]{name} FAIL[/]"


def passes(mechanism: str, judgement: Judgement) -> bool:
    """Whether SPF or DMARC passed, or an aligned DKIM signature did."""
    if mechanism == "dkim":
        return any(s["result"] == "pass" and s["aligned"] for s in judgement["dkim"])
    return bool(judgement[mechanism]["result"] == "pass")
