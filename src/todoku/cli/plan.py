"""`todoku plan` shows what would change and why; `todoku apply` asks, does it, and tells how it went."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from todoku.cli.parts.context import DONE, FAILED, USAGE, Context, fail, print_json, require_root

if TYPE_CHECKING:
    from rich.console import Console

    from todoku.cli.parts.desired import Desired, Wishes
    from todoku.plan.events import Outcome
    from todoku.plan.journal import Journal
    from todoku.plan.plan import Plan
    from todoku.plan.stages import Stage

# On a file system that a reboot clears: after that there is neither a holder nor anything to follow.
LOCK = Path("/run/todoku/apply.lock")
JOURNAL = Path("/run/todoku/apply.journal")
_PATIENCE = 7200.0  # seconds: a DKIM key was seen to take more than an hour
_PAUSE = 15.0  # seconds between two looks at what is waited for

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]


_Prune = Annotated[
    bool, typer.Option("--prune", help="Also remove what Todoku made and nothing needs any more.")
]
_HostOnly = Annotated[
    bool,
    typer.Option("--host-only", help="Only this machine: leave the cloud and the DNS to another one."),
]
_Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Also replace DNS records that are somebody else's, and much of a zone at once."
    ),
]


def plan(
    ctx: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Exit with 2 when something would change.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also list what would not change.")] = False,
    prune: _Prune = False,
    force: _Force = False,
    host_only: _HostOnly = False,
    json: _Json = False,
) -> None:
    """Show what would change, and why. Changes nothing."""
    from todoku.cli.parts.desired import Wishes, worlds
    from todoku.plan import show

    context: Context = ctx.obj
    desired, _, planned = _make_plan(context, Wishes(prune, force, host_only), json)
    told = desired.notes()
    if json:
        print_json({**show.as_json(planned, worlds()), "notes": list(told)})
    else:
        show.plan(planned, _console(), worlds=worlds(), everything=everything)
        for note in told:
            show.say(_console(), f"Note: {note}")
    if planned.problems:
        raise SystemExit(FAILED)
    raise SystemExit(USAGE if check and not planned.empty else DONE)


def apply(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until nothing has to be waited for, for two hours at most.")
    ] = False,
    prune: _Prune = False,
    force: _Force = False,
    host_only: _HostOnly = False,
    json: _Json = False,
) -> None:
    """Show what would change, ask, and do it. Can be run again at any time."""
    from todoku.cli.parts.desired import Wishes, worlds
    from todoku.plan import show

    require_root("`todoku apply`")
    context: Context = ctx.obj
    with ExitStack() as held:
        _lock(held, json)
        desired, journal, planned = _make_plan(context, Wishes(prune, force, host_only), json)
        if json:
            print_json({"event": "plan", **show.as_json(planned, worlds())})
        else:
            show.plan(planned, _console(), worlds=worlds())
        if planned.problems:
            _refuse("nothing was changed: first see to what is marked x in the plan", FAILED, json)
        if planned.empty and not (wait and planned.waiting):
            if json:
                print_json(show.outcome_as_json(_all_unchanged(planned)))
            raise SystemExit(DONE)
        if not yes:
            _ask(json)
        raise SystemExit(
            _apply(desired.stages(), journal, planned, json, patience=_PATIENCE if wait else 0.0)
        )


def _make_plan(context: Context, wishes: Wishes, json: bool) -> tuple[Desired, Journal, Plan]:
    """What the settings file wants, what earlier runs left to follow, and the plan."""
    from rich.console import Console

    from todoku.cli.parts.desired import Desired
    from todoku.plan.journal import Journal
    from todoku.plan.order import PlanError
    from todoku.plan.stages import make_stages
    from todoku.plan.trouble import EXPECTED, explain
    from todoku.settings.credential import CredentialError

    settings = context.settings()
    # Looking is short, and most of it is importing: what is made stays, and looking through it for garbage again and
    # again takes a seventh of the time.
    gc.disable()
    try:
        journal = Journal(JOURNAL)
        with Console(stderr=True).status("Looking at what is there ..."):
            desired = Desired(settings, wishes, context.config)
            return desired, journal, make_stages(desired.stages(), journal)
    except EXPECTED as error:
        _refuse(f"no plan could be made: {explain(error)}", FAILED, json)
    except (PlanError, CredentialError) as error:
        _refuse(f"no plan could be made: {error}", FAILED, json)
    finally:
        gc.enable()


def _apply(
    stages: Sequence[Stage], journal: Journal, planned: Plan, json: bool, patience: float = 0.0
) -> int:
    from todoku.cli.parts.by_hand import Entries, News
    from todoku.cli.parts.progress import reporting
    from todoku.plan import show
    from todoku.plan.stages import apply_stages

    console = _console()
    began = time.monotonic()
    order = [step.id for step in planned.steps]
    entries = Entries((lambda _: None) if json else lambda line: show.say(console, line), order)
    with (
        _stopping_on_signals() as stop,
        reporting(console, len(planned.changes), as_json=json) as told,
    ):
        report = News(told)
        outcome = apply_stages(stages, planned, report, stop=stop, journal=journal)
        entries.after(outcome)
        until = began + patience
        while outcome.ok and _needs_only_time(outcome) and time.monotonic() < until and not stop.wait(_PAUSE):
            again = apply_stages(stages, planned, report, stop=stop, journal=journal)
            entries.after(again)
            done = tuple(dict.fromkeys((*outcome.done, *again.done)))
            outcome = replace(again, done=done, unchanged=tuple(n for n in again.unchanged if n not in done))
    seconds = time.monotonic() - began
    if json:
        print_json(show.outcome_as_json(outcome, seconds))
    else:
        show.outcome(entries.shortened(outcome), console, planned=planned, seconds=seconds)
    if outcome.abandoned:
        # The interpreter would wait for the threads that still run; "at once" was asked for.
        sys.stdout.flush()
        os._exit(FAILED)
    outcome.raise_bug()
    return DONE if outcome.ok else FAILED


def _needs_only_time(outcome: Outcome) -> bool:
    return any(not one.for_person for one in outcome.waits)


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    """A flag that the first Ctrl-C (SIGTERM, a lost terminal) sets; the second one interrupts at once."""
    stop = threading.Event()
    interrupted = False

    def handle(_number: int, _frame: object) -> None:
        nonlocal interrupted
        if not stop.is_set():
            stop.set()
            # A signal may come in the midst of a print: only the bare system call may be used here.
            with suppress(OSError):
                os.write(2, b"\nStopping: what is running ends first. Ctrl-C again stops at once.\n")
        elif not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # What is ignored stays ignored: that is how nohup and background jobs of a shell work.
    taken = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in taken}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lock(held: ExitStack, json: bool) -> None:
    from todoku.plan.lock import LockedError, exclusive
    from todoku.plan.trouble import explain

    try:
        held.enter_context(exclusive(LOCK, "`todoku apply`"))
    except LockedError as error:
        _refuse(str(error), FAILED, json)
    except OSError as error:
        _refuse(f"cannot make sure that this is the only `todoku apply`: {explain(error)}", FAILED, json)


def _ask(json: bool) -> None:
    """Go on only if a person says yes."""
    if json or not sys.stdin.isatty():
        why = "--json cannot ask" if json else "standard input is not a terminal, so nobody can be asked"
        _refuse(f"nothing was changed: {why}; add --yes to apply without asking", USAGE, json)
    if not typer.confirm("Apply this?", default=False):
        _refuse("nothing was changed", FAILED, json)


def _refuse(message: str, code: int, json: bool) -> NoReturn:
    if json:
        print_json({"ok": False, "changed": [], "error": message})
    fail(message, code)


def _all_unchanged(planned: Plan) -> Outcome:
    from todoku.plan.events import Outcome, Waits

    return Outcome(
        unchanged=tuple(step.id for step in planned.steps if not step.waits),
        waits=tuple(Waits(step.id, step.waits) for step in planned.steps if step.waits),
    )


def _console() -> Console:
    from rich.console import Console

    return Console()
