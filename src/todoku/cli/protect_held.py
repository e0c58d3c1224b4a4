"""`todoku protect held`: what is held for its password-protected ZIPs, and what its operator does with it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from todoku.cli.parts.context import USAGE, Context, fail, print_json, require_root
from todoku.cli.parts.people import Json, refuse, say

if TYPE_CHECKING:
    from todoku.protect.held import Held, Quarantine

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help='What is held for its password-protected ZIPs (incoming_zip = "quarantine").',
)
USER = "todoku-quarantine"
_PATIENCE = 30.0  # seconds until the service has handed it over

Id = Annotated[
    str, typer.Argument(metavar="ID", help="As `todoku protect held list` shows it; its start will do.")
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="RECIPIENT", help="One recipient only; all of them without this."),
]


@app.command("list")
def list_held(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what is held: from whom, to whom, until when, and what became of it."""
    found = sorted(_quarantine(ctx).all(), key=lambda each: -each.about.made)
    if as_json:
        print_json({"ok": True, "held": [_described(each) for each in found]})
        return
    if not found:
        say("Nothing is held.")
    for each in found:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.about.expires))
        sender = each.about.sender or "<>"
        say(f"{each.id[:12]}  {sender}: {each.about.subject}  (until {until})")
        for number, recipient in enumerate(each.about.recipients):
            say(f"              {recipient}: {_state(each, number)}")


@app.command("show")
def show(ctx: typer.Context, held: Id, as_json: Json = False) -> None:
    """Show one message: its headers, its files, and what became of it for each recipient. Nothing is opened."""
    one = _one(_quarantine(ctx), held, as_json=as_json)
    headers = _headers(one)
    if as_json:
        print_json({"ok": True, **_described(one), "headers": headers})
        return
    for number, recipient in enumerate(one.about.recipients):
        say(f"{recipient}: {_state(one, number)}")
    say(f"Files: {', '.join(one.about.files)}")
    say("")
    say(headers or "(the message is gone: all is decided)")


@app.command("deliver")
def deliver(ctx: typer.Context, held: Id, to: To = None, as_json: Json = False) -> None:
    """Deliver it without the password, and so without a scan: whoever decides that knows the sender. What malware was
    found in is not delivered."""
    one = _one(_quarantine(ctx), held, as_json=as_json)
    if one.malware:
        refuse(f"{one.malware} was found in it: it is not delivered. `drop` removes it", 1, as_json=as_json)
    chosen = _decide(one, to, "releasing", ("held", "refused"), as_json=as_json)
    until = time.monotonic() + _PATIENCE
    while any(one.fate(number).state == "releasing" for number in chosen) and time.monotonic() < until:
        time.sleep(0.1)
    outcome = {one.about.recipients[number]: _state(one, number) for number in chosen}
    if any(one.fate(number).state != "delivered" for number in chosen):
        words = "; ".join(f"{recipient}: {state}" for recipient, state in outcome.items())
        refuse(
            f"not delivered yet: {words}. Does todoku-quarantine run? It goes on trying", 1, as_json=as_json
        )
    if as_json:
        print_json({"ok": True, "id": one.id, "outcome": outcome})
        return
    for recipient in outcome:
        say(f"Delivered to {recipient}, unscanned.")


@app.command("drop")
def drop(ctx: typer.Context, held: Id, to: To = None, as_json: Json = False) -> None:
    """Remove it: nobody gets it, and its link opens nothing any more."""
    one = _one(_quarantine(ctx), held, as_json=as_json)
    chosen = _decide(one, to, "dropped", ("held", "refused"), as_json=as_json)
    recipients = [one.about.recipients[number] for number in chosen]
    if as_json:
        print_json({"ok": True, "id": one.id, "dropped": recipients})
    else:
        say(f"Dropped for {', '.join(recipients)}.")


def _decide(one: Held, to: str | None, state: Any, before: tuple[str, ...], *, as_json: bool) -> list[int]:
    """For which recipients it is so now."""
    from todoku.protect.held import Fate

    recipients = one.about.recipients
    if to is not None and to.lower() not in [each.lower() for each in recipients]:
        refuse(f"it is not for {to}, but for {', '.join(recipients)}", USAGE, as_json=as_json)
    wanted = [number for number, each in enumerate(recipients) if to is None or each.lower() == to.lower()]
    with one.taken():
        chosen = [number for number in wanted if one.fate(number).state in before]
        if not chosen:
            words = "; ".join(f"{recipients[number]}: {_state(one, number)}" for number in wanted)
            refuse(f"that is decided already: {words}", 1, as_json=as_json)
        for number in chosen:
            one.decide(number, Fate(state, by="the operator", at=time.time()))
    return chosen


def _state(one: Held, number: int) -> str:
    fate = one.fate(number)
    words = {"releasing": "on its way", "refused": f"refused: {fate.why}"}.get(fate.state, fate.state)
    return f"{words}, by {fate.by}" if fate.by and fate.state != "refused" else words


def _described(one: Held) -> dict[str, Any]:
    fates = {who: asdict(one.fate(number)) for number, who in enumerate(one.about.recipients)}
    return {"id": one.id, **asdict(one.about), "malware": one.malware, "fates": fates}


def _headers(one: Held) -> str:
    from todoku.gate import held

    try:
        head = one.content.read_bytes().partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    lines = [line for line in head.split("\r\n") if not line.startswith(f"{held.NAME}:")]
    return "\n".join("".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines)


def _one(quarantine: Quarantine, start: str, *, as_json: bool) -> Held:
    found = [job for job in quarantine.jobs() if job.startswith(start.lower())]
    one = quarantine.find(found[0]) if len(found) == 1 else None
    if one is None:
        what = "several messages begin" if len(found) > 1 else "no message that is held begins"
        refuse(f"{what} with {start}: see `todoku protect held list`", USAGE, as_json=as_json)
    return one


def _quarantine(ctx: typer.Context) -> Quarantine:
    """The quarantine, which is read and written as its service's user."""
    from todoku.cli.protect import become
    from todoku.protect.held import Quarantine

    context: Context = ctx.obj
    context.settings()
    require_root("this")
    quarantine = Quarantine()
    if not quarantine.messages.exists():
        fail(f"there is no {quarantine.messages}: no mail is held on this machine")
    become(USER)
    return quarantine
