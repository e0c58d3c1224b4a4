"""`todoku alias`: addresses whose mail goes to others, here or elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from todoku.cli.parts import people as shared
from todoku.cli.parts.context import print_json
from todoku.cli.parts.people import Json, directory, note, say

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Aliases: addresses whose mail goes to others, here or elsewhere.",
)

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The alias.")]


@app.command("add")
def add(
    ctx: typer.Context,
    address: Address,
    targets: Annotated[list[str], typer.Argument(metavar="TARGET", help="Where its mail goes.")],
    as_json: Json = False,
) -> None:
    """Make an alias, or add targets to one."""
    with directory(ctx, "adding an alias", as_json=as_json) as people:
        alias, new = people.add_alias(address, targets)
        everybody = people.people()
    if as_json:
        print_json({"ok": True, "alias": shared.alias_json(alias, everybody), "added": list(new)})
        return
    from todoku.directory.addresses import shown

    if not new:
        say("Nothing to do: it was like that already.")
    say(f"Mail to {shown(alias.address)} goes to {', '.join(map(shown, alias.targets))}.")


@app.command("list")
def list_aliases(ctx: typer.Context, as_json: Json = False) -> None:
    """Show all aliases, with those that every domain has without being asked."""
    with directory(ctx, "listing the aliases", as_json=as_json) as people:
        everybody = people.people()
    aliases = everybody.held.aliases
    if as_json:
        implicit = [{"address": address, "targets": list(to)} for address, to in everybody.implicit.items()]
        print_json(
            {
                "ok": True,
                "aliases": [shared.alias_json(each, everybody) for each in aliases],
                "implicit": implicit,
            }
        )
        return
    from todoku.directory.addresses import shown

    for each in aliases:
        remark = shared.alias_remark(each, everybody)
        say(f"{shown(each.address)} -> {', '.join(map(shown, each.targets))}{remark and f'  ({remark})'}")
    for address, targets in everybody.implicit.items():
        say(f"{shown(address)} -> {', '.join(map(shown, targets))}  (every domain has it)")
    for text in everybody.remarks():
        note(text)


@app.command("remove")
def remove(
    ctx: typer.Context,
    address: Address,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="Only these; by default all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove an alias, or some of its targets."""
    with directory(ctx, "removing an alias", as_json=as_json) as people:
        left = people.remove_alias(address, targets or ())
    if as_json:
        print_json({"ok": True, "address": left.address, "targets": list(left.targets)})
        return
    from todoku.directory.addresses import shown

    if left.targets:
        say(f"Mail to {shown(left.address)} now goes to {', '.join(map(shown, left.targets))}.")
    else:
        say(f"Removed the alias {shown(left.address)}.")
