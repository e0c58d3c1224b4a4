"""`todoku account send-as`: who may send in the name of a colleague, of an alias, or of a whole domain of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts import cloud as cloud_parts
from todoku.cli.parts import people as shared
from todoku.cli.parts.context import print_json
from todoku.cli.parts.people import Json, directory, note, say

if TYPE_CHECKING:
    from todoku.directory import Account, Directory

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Whom an account may send as, besides its own addresses and the aliases that lead to it.",
)

Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's login or one of its addresses.")]
Sender = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS", help="Somebody else's address, or @DOMAIN for every address of a domain."
    ),
]


@app.command("grant")
def grant(ctx: typer.Context, account: Name, sender: Sender, as_json: Json = False) -> None:
    """Let an account send as another's address. What comes to that address goes where it went before."""
    with directory(ctx, "granting a sender", as_json=as_json) as people:
        granted, new = people.grant(account, sender)
        single = [] if sender.startswith("@") else [sender]
        notes = cloud_parts.not_approved(people.people().settings, single)
        _tell(people, granted, as_json=as_json, notes=[] if new else ["it was like that already", *notes])


@app.command("revoke")
def revoke(ctx: typer.Context, account: Name, sender: Sender, as_json: Json = False) -> None:
    """Take that back."""
    with directory(ctx, "revoking a sender", as_json=as_json) as people:
        _tell(people, people.revoke(account, sender), as_json=as_json, notes=[])


def _tell(people: Directory, account: Account, *, as_json: bool, notes: Sequence[str]) -> None:
    everybody = people.people()
    if as_json:
        print_json({"ok": True, "account": shared.account_json(account, everybody), "notes": list(notes)})
        return
    say(f"{account.login} may send as {_all(account, everybody.held.granted(account.login))}.")
    for each in notes:
        note(each)


def _all(account: Account, granted: Sequence[str]) -> str:
    from todoku.directory.addresses import shown_sender

    return ", ".join(shown_sender(each) for each in (*account.addresses, *granted))
