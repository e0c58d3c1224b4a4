"""How a plan and an outcome are shown: to a person through Rich, to a program as values for JSON.

Without a terminal there are no colours, and lines are never cut: what is longer than the window wraps there,
and stays whole in a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from rich.console import Console
from rich.text import Text

from todoku.plan.events import (
    Done,
    Event,
    Failed,
    NotTried,
    Outcome,
    Started,
    Unchanged,
    Waiting,
    Waits,
)
from todoku.plan.plan import NOT_YET as _NOT_YET
from todoku.plan.plan import Plan, Step
from todoku.plan.resource import Action

Json: TypeAlias = dict[str, Any]

_SYMBOLS = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.DELETE: ("-", "red"),
    Action.RUN: ("!", "magenta"),
}
_LATER = ("?", "cyan")
_PROBLEM = ("x", "bold red")
_WAITS = (".", "cyan")
_SAME = (" ", "dim")

# A file that is compared may hold anything; a terminal must not obey it. Tabs and line ends stay.
VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


@dataclass(frozen=True, slots=True)
class Worlds:
    """In which world ("host", "cloud", "dns") a resource lives, by the part of its id before the colon."""

    by_prefix: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = "host"

    def of(self, name: str) -> str:
        return self.by_prefix.get(name.partition(":")[0], self.otherwise)


HOST_ONLY = Worlds()


def plan(plan: Plan, console: Console, *, worlds: Worlds = HOST_ONLY, everything: bool = False) -> None:
    """Print `plan`, grouped by world; resources that would not change only with `everything`."""
    shown = [s for s in plan.steps if everything or s.change is not None or s.problem or s.waits]
    told: dict[str, str] = {}  # a problem -> the first resource that has it
    for world in dict.fromkeys(worlds.of(step.id) for step in shown):
        say(console, (world, "bold"))
        for step in shown:
            if worlds.of(step.id) == world:
                _print_step(console, step, like=told.setdefault(_unseen(step) or step.id, step.id))
        say(console, "")
    say(console, (summary(plan), "bold"))
    if plan.problems:
        say(console, ("The plan is incomplete: what is marked x could not be looked up.", "bold red"))


def summary(plan: Plan) -> str:
    """One line: "2 to create, 1 to update, 14 unchanged"."""
    counts = _counts(plan)
    unchanged, problems, later = counts.pop("unchanged"), counts.pop("problems"), counts.pop("later")
    waiting = counts.pop("waiting")
    parts = [f"{count} to {action}" for action, count in counts.items() if count]
    if later:
        parts.append(f"{later} known after apply")
    if waiting:
        parts.append(f"{waiting} waiting")
    if problems:
        parts.append(f"{problems} not looked up")
    if not parts:
        return f"Nothing to do: {unchanged} unchanged."
    return f"{', '.join(parts)}, {unchanged} unchanged."


def outcome(outcome: Outcome, console: Console, *, planned: Plan | None = None, seconds: float = 0.0) -> None:
    """Print how an apply ended; of what was not tried, only what `planned` wanted to change is named."""
    if outcome.ok:
        done = f"Done: {len(outcome.done)} changed, {len(outcome.unchanged)} unchanged, in {seconds:.1f} s."
        say(console, (done, "bold green"))
        decisions = [one for one in outcome.waits if one.for_person]
        later = [one for one in outcome.waits if not one.for_person]
        _print_list(console, "for you", [f"{one.id}: {one.reason}" for one in decisions])
        _print_list(console, "waiting", [f"{one.id}: {one.reason}" for one in later])
        if later:
            say(console, "Run `todoku apply` again later, or `todoku apply --wait`.")
        return
    say(console, ("Failed." if outcome.failed else "Stopped before the end.", "bold red"))
    _print_list(console, "done", outcome.done)
    for failure in outcome.failed:
        _print_list(console, "failed", [f"{failure.id}: {failure.reason}"])
    wanted = None if planned is None else {step.id for step in planned.changes}
    named = [one for one in outcome.not_tried if wanted is None or one.id in wanted]
    _print_list(console, "not tried", [f"{one.id} ({one.because})" for one in named])
    if len(named) < len(outcome.not_tried):
        others = len(outcome.not_tried) - len(named)
        say(console, f"  {others} more, unchanged in the plan, were not looked at again.")
    fix = "Fix it and run" if outcome.failed else "Run"
    say(console, (f"{fix} `todoku apply` again: what is done stays done.", "bold"))


def as_json(plan: Plan, worlds: Worlds = HOST_ONLY) -> Json:
    """`plan` as a value for JSON."""
    return {
        "ok": not plan.problems,
        "changes": len(plan.changes),
        "summary": _counts(plan),
        "steps": [
            {
                "id": step.id,
                "world": worlds.of(step.id),
                "why": step.why,
                "action": step.change.action.value if step.change else None,
                "summary": step.change.summary if step.change else "",
                "detail": step.change.detail if step.change else "",
                "known": step.known,
                "needs": list(step.needs),
                "problem": step.problem,
                "waits": step.waits,
            }
            for step in plan.steps
        ],
    }


def event_as_json(event: Event) -> Json:
    """`event` as a value for JSON, its kind under "event"."""
    match event:
        case Started(name, change):
            return {"event": "started", "id": name, "action": change.action.value, "summary": change.summary}
        case Waiting(running):
            so_far = [{"id": name, "seconds": round(seconds, 3)} for name, seconds in running]
            return {"event": "waiting", "running": so_far}
        case Done(name, change, seconds):
            return {
                "event": "done",
                "id": name,
                "action": change.action.value,
                "summary": change.summary,
                "seconds": round(seconds, 3),
            }
        case Unchanged(name):
            return {"event": "unchanged", "id": name}
        case Failed(name, reason, seconds):
            return {"event": "failed", "id": name, "reason": reason, "seconds": round(seconds, 3)}
        case NotTried(name, because):
            return {"event": "not tried", "id": name, "because": because}
        case Waits(name, reason, change):
            said = {"event": "waits", "id": name, "reason": reason, "changed": change is not None}
            return said | _by_hand(event)


def outcome_as_json(outcome: Outcome, seconds: float = 0.0) -> Json:
    """`outcome` as a value for JSON; "changed" are the ids of what was changed."""
    return {
        "ok": outcome.ok,
        "changed": list(outcome.done),
        "unchanged": list(outcome.unchanged),
        "failed": [{"id": one.id, "reason": one.reason} for one in outcome.failed],
        "not_tried": [{"id": one.id, "because": one.because} for one in outcome.not_tried],
        "waiting": [{"id": one.id, "reason": one.reason} | _by_hand(one) for one in outcome.waits],
        "stopped": outcome.stopped or outcome.abandoned,
        "seconds": round(seconds, 3),
    }


def _by_hand(event: Waits) -> Json:
    """What has to be entered elsewhere by a person, if anything has."""
    return {} if event.entry is None else {"enter": asdict(event.entry)}


def _counts(plan: Plan) -> dict[str, int]:
    """How many steps of each kind, every kind named."""
    counts = {action.value: 0 for action in Action} | {
        "later": 0,
        "waiting": 0,
        "problems": 0,
        "unchanged": 0,
    }
    for step in plan.steps:
        if step.problem:
            kind = "problems"
        elif step.waits:
            kind = "waiting"
        elif step.change is None:
            kind = "unchanged"
        else:
            kind = step.change.action.value if step.known else "later"
        counts[kind] += 1
    return counts


def _print_step(console: Console, step: Step, like: str) -> None:
    """`like` is the resource for which the same problem was told already, or this one."""
    if step.problem:
        symbol, style = _PROBLEM
        says = _indent(step.problem, 6) if like == step.id else f"as for {like}"
    elif step.waits:
        symbol, style = _WAITS
        says = f"waiting: {_indent(step.waits, 6)}"
    elif step.change is None:
        symbol, style = _SAME
        says = "unchanged"
    else:
        symbol, style = _SYMBOLS[step.change.action] if step.known else _LATER
        says = step.change.summary
    say(console, (f"  {symbol} {step.id}", style), f"  {says}")
    if step.why:
        say(console, (f"      {step.why}", "dim"))
    if step.change is not None and step.change.detail:
        if like != step.id:
            say(console, (f"      {_NOT_YET}as for {like}", ""))
            return
        for line in step.change.detail.rstrip("\n").split("\n"):
            say(console, (f"      {line}", _line_style(line)))


def _unseen(step: Step) -> str:
    """Why the present state could not be read, if so."""
    told = step.change.detail if step.change is not None and not step.known else ""
    return step.problem or (told.removeprefix(_NOT_YET) if told.startswith(_NOT_YET) else "")


def _line_style(line: str) -> str:
    """The colour of a line of a unified diff; other details hardly ever look like one."""
    for start, style in (("+++", "bold"), ("---", "bold"), ("@@", "cyan"), ("+", "green"), ("-", "red")):
        if line.startswith(start):
            return style
    return ""


def _print_list(console: Console, heading: str, lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        say(console, _indent(f"  {'' if number else heading + ':':<11}{line}", 13))


def _indent(text: str, spaces: int) -> str:
    """`text` with every line after the first moved to the right: a program's complaint may have several."""
    return text.rstrip("\n").replace("\n", "\n" + " " * spaces)


def say(console: Console, *parts: str | tuple[str, str]) -> None:
    """Print one line out of `parts`: a text, or a text and its style."""
    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    line = Text.assemble(*((text.translate(VISIBLE), style) for text, style in styled))
    console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
