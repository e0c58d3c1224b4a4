"""`todoku suppression`: the addresses to which the relay sends nothing any more."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts.context import FAILED, USAGE, Context, fail, print_json
from todoku.cli.parts.people import Json, refuse, say

if TYPE_CHECKING:
    from todoku.cloud.suppressions import Suppressions

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Suppressions: addresses to which the relay sends nothing any more.",
)
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The recipient's address.")]
_REASONS = {
    "HARDBOUNCE": "its server refused a message for good",
    "SOFTBOUNCE": "its server could not be reached for too long",
    "COMPLAINT": "the recipient reported a message as unwanted",
    "UNSUBSCRIBE": "the recipient unsubscribed",
    "MANUAL": "somebody put it on the list",
}


@app.command("list")
def list_suppressions(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the addresses that the relay sends nothing to, and why."""
    from todoku.plan.trouble import EXPECTED, explain

    try:
        found = _suppressions(ctx).all()
    except EXPECTED as error:
        refuse(explain(error), FAILED, as_json=as_json)
    if as_json:
        print_json({"ok": True, "suppressions": [asdict(each) for each in found]})
        return
    if not found:
        say("Nobody is suppressed.")
    for each in found:
        why = _REASONS.get(each.reason, each.reason)
        say(f"{each.address}  since {each.created[:19].replace('T', ' ')}: {why}")


@app.command("lift")
def lift(ctx: typer.Context, address: Address, as_json: Json = False) -> None:
    """Let mail go there again. Do it when the cause is gone: another bounce puts the address back on the list."""
    from todoku.plan.trouble import EXPECTED, explain

    try:
        list_ = _suppressions(ctx)
        found = list_.find(address)
        if found is not None:
            list_.lift(found)
    except EXPECTED as error:
        refuse(explain(error), FAILED, as_json=as_json)
    if as_json:
        print_json({"ok": True, "lifted": asdict(found) if found else None})
    elif found is None:
        say(f"Nothing to do: {address} is not suppressed.")
    else:
        said = f" Its server had said: {found.detail}" if found.detail else ""
        say(f"Mail to {found.address} is sent again.{said}")


@app.command("add")
def add(ctx: typer.Context, address: Address, as_json: Json = False) -> None:
    """Have the relay send nothing to this address any more."""
    from todoku.plan.trouble import EXPECTED, explain
    from todoku.settings import values
    from todoku.settings.problems import WrongValueError

    try:
        address = values.mail_address(address)
    except WrongValueError as error:
        refuse(str(error), USAGE, as_json=as_json)
    try:
        added = _suppressions(ctx).add(address)
    except EXPECTED as error:
        refuse(explain(error), FAILED, as_json=as_json)
    if as_json:
        print_json({"ok": True, "address": address, "added": added})
    else:
        say(
            f"The relay sends nothing to {address} any more."
            if added
            else "Nothing to do: it was suppressed."
        )


def _suppressions(ctx: typer.Context) -> Suppressions:
    context: Context = ctx.obj
    settings = context.settings()
    if settings.cloud is None:
        fail(
            "the settings have no [cloud] table: look into the console, Email Delivery, Suppression List",
            USAGE,
        )
    from todoku.cloud.suppressions import Suppressions

    return Suppressions.of(settings)
