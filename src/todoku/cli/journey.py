"""`todoku trace`, `todoku queue`, `todoku stats`: what became of messages."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from todoku.cli.parts import ledger as ledger_parts
from todoku.cli.parts.context import DONE, FAILED, Context, print_json, require_root
from todoku.cli.parts.ledger import moment, span
from todoku.cli.parts.people import Json, refuse, say

if TYPE_CHECKING:
    from todoku.delivery.queue import Waiting
    from todoku.delivery.stats import Count
    from todoku.delivery.trace import Journey, Reached

_BAR = 40  # characters of the longest bar


def trace(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="ADDRESS|MESSAGE-ID|QUEUE-ID", help="What to look for.")],
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="How many messages at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what became of a message: every station, and the other side's words. Exit code 1: none was found."""
    with ledger_parts.opened(ctx, "tracing a message", as_json=as_json) as engine:
        from todoku.delivery.trace import trace as look

        journeys = look(engine, what, most)
    if as_json:
        print_json({"ok": bool(journeys), "messages": [asdict(each) for each in journeys]})
    elif not journeys:
        say(f"The ledger knows no message of {what}. It remembers as many days as ledger.days says.")
    for journey in [] if as_json else reversed(journeys):
        _show(journey)
    raise SystemExit(DONE if journeys else FAILED)


def _show(journey: Journey) -> None:
    sender = f"<{journey.sender}>" if journey.sender else "<> (a notice)"
    name = journey.queue_id or "without a queue ID"
    size = f", {journey.size:,} bytes" if journey.size else ""
    say(f"{moment(journey.arrived)}  {name}  from {sender}{size}  {journey.message_id}".rstrip())
    if journey.subject:
        say(f"    subject: {journey.subject}")
    where = f"logged in as {journey.login}" if journey.login else ""
    from_where = f"from {journey.client}" if journey.client else "made on this machine"
    say(f"    handed over {', '.join(filter(None, (where, from_where)))}")
    if journey.parent:
        say(f"    a notice about {journey.parent}")
    if journey.gate in ("refused", "held back"):
        say(f"    the gate {journey.gate} it ({journey.rule}): {journey.words}")
    elif journey.gate:
        say("    the gate let it pass")
    for reached in journey.recipients:
        _show_recipient(reached)
    if journey.removed is not None and journey.queue_id:
        say(f"    {moment(journey.removed)}  left the queue")
    say("")


def _show_recipient(reached: Reached) -> None:
    alias = f" (addressed to {reached.original})" if reached.original else ""
    say(f"  to {reached.address}{alias}")
    for tried in reached.attempts:
        say(f"    {moment(tried.time)}  {tried.state}: {tried.words}  [{tried.host}]")
    until = f", not before {moment(reached.next_try)}" if reached.next_try else ""
    say(f"    => {reached.state}: it {reached.state.sentence}{until} ({moment(reached.since)})")


def queue(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what waits in the queue: why, and when it is tried next."""
    context: Context = ctx.obj
    settings = context.settings()
    require_root("looking into the queue")
    from todoku.delivery import way_out
    from todoku.delivery.queue import in_turn, waiting, with_room
    from todoku.host.postfix.pace import pace

    speed = pace(settings.relay.plan)
    try:
        shut = way_out.said()
        found = in_turn(
            with_room(waiting(), shut.until if shut else None),
            speed.delay,
            speed.recipients,
            lambda to: not settings.is_own(to),
            time.time(),
        )
    except OSError as error:
        refuse(str(error), FAILED, as_json=as_json)
    turn = f"the relay's plan has {settings.relay.plan.per_minute:,} emails a minute: it waits for its turn"
    if as_json:
        shown = [{**asdict(each), "meanings": _meanings(each, turn)} for each in found]
        print_json({"ok": True, "messages": shown})
        return
    if not found:
        say("Nothing waits.")
    for each in found:
        _show_waiting(each, _meanings(each, turn))


def _meanings(each: Waiting, turn: str) -> list[str]:
    """Why it waits, for each recipient. What was said at an earlier try is no reason any more once its turn comes."""
    from todoku.delivery.queue import meaning

    return [turn if each.turn else meaning(reason) for _, reason in each.recipients]


def _show_waiting(each: Waiting, meanings: list[str]) -> None:
    now = time.time()
    when = {
        "hold": "on hold until somebody releases it (postsuper -H)",
        "deferred": "tried again now" if each.next is None or each.next <= now else "",
        "active": "" if each.turn else "being tried now",
        "incoming": "" if each.turn else "being tried now",
    }.get(each.queue, "being tried now")
    again = f"tried {'' if each.turn else 'again '}in {span((each.next or now) - now)}"
    when = when or f"{again}, at {moment(each.next or now)}"
    say(f"{each.queue_id}  from <{each.sender}>, for {span(now - each.arrived)}, {each.size:,} bytes: {when}")
    for (address, reason), meaning in zip(each.recipients, meanings, strict=True):
        say(f"    to {address}{f': {meaning}' if meaning else ''}")
        if reason:
            say(f"        {reason}")


def stats(
    ctx: typer.Context,
    by: Annotated[
        Literal["day", "account", "domain"], typer.Option("--by", help="What each line is for.")
    ] = "day",
    days: Annotated[int, typer.Option("--days", min=1, help="How many days back.")] = 14,
    as_json: Json = False,
) -> None:
    """Show how much mail there was, and what became of it: by day, account or recipients' domain."""
    with ledger_parts.opened(ctx, "counting messages", as_json=as_json) as engine:
        from todoku.delivery.stats import DAY, count

        counts = count(engine, by, time.time() - days * DAY)
    if as_json:
        print_json({"ok": True, "by": by, "counts": [{"of": each.of, **each.states} for each in counts]})
        return
    if not counts:
        say(f"There was no mail in the last {days} days.")
        return
    _chart(counts)


def _chart(counts: list[Count]) -> None:
    from todoku.delivery.states import State

    most, width = max(each.total for each in counts), max(len(each.of) for each in counts)
    arrived = (State.DELIVERED, State.ACCEPTED, State.RELAYED, State.COMPLAINED)
    waits = (State.QUEUED, State.DEFERRED)
    for each in counts:
        good = sum(each.states.get(state, 0) for state in arrived)
        later = sum(each.states.get(state, 0) for state in waits)
        marks = [round(_BAR * number / most) for number in (good, later, each.total - good - later)]
        bar = "█" * marks[0] + "▒" * marks[1] + "░" * marks[2]
        words = ", ".join(f"{number:,} {state}" for state, number in sorted(each.states.items()))
        say(f"{each.of.ljust(width)}  {bar.ljust(_BAR)}  {each.total:,}: {words}")
    say("\n█ on its way or there   ▒ waits   ░ did not arrive")
