"""`todoku destroy`: take away what Todoku made in the cloud, after a person has typed the domain's name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from todoku.cli.parts import cloud as cloud_parts
from todoku.cli.parts.context import DONE, FAILED, USAGE, Context, print_json, require_root


def destroy(
    ctx: typer.Context,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="DOMAIN", help="The first domain's name, instead of typing it."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Delete what Todoku made in the cloud: mail cannot be sent afterwards. The host and the DNS stay."""
    from contextlib import ExitStack

    from todoku.cli.plan import LOCK
    from todoku.cloud import destruction
    from todoku.host.client import Host
    from todoku.plan.lock import LockedError, exclusive
    from todoku.plan.trouble import EXPECTED, explain

    require_root("`todoku destroy`")
    context: Context = ctx.obj
    settings = context.settings()
    client = cloud_parts.cloud(settings)
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(LOCK, "`todoku apply`"))
            in_use = cloud_parts.keeper(settings, Host()).username()
            found = destruction.made(settings, client, in_use)
        except LockedError as error:
            cloud_parts.refuse(str(error), FAILED, as_json=json)
        except EXPECTED as error:
            cloud_parts.refuse(explain(error), FAILED, as_json=json)
        if not json:
            _show(found)
        if not found.things:
            if json:
                print_json({"ok": True, "deleted": [], "kept": list(found.kept), "failed": []})
            raise SystemExit(DONE)
        first = settings.domains[0]
        _confirm({first.name, first.unicode}, first.unicode, confirm, json)
        deleted: list[str] = []

        def tell(what: str) -> None:
            deleted.append(what)
            if not json:
                print(f"deleted: {what}", flush=True)

        failed = destruction.destroy(found, tell)
    if json:
        print_json(
            {
                "ok": not failed,
                "deleted": deleted,
                "kept": list(found.kept),
                "failed": [{"what": what, "reason": str(why)} for what, why in failed],
            }
        )
    for what, why in failed:
        print(f"not deleted: {what}: {why}", file=sys.stderr)
    raise SystemExit(FAILED if failed else DONE)


def _show(found: object) -> None:
    from todoku.cloud.destruction import Made

    assert isinstance(found, Made)  # noqa: S101
    if found.things:
        print("This will be deleted, in this order:")
    else:
        print("There is nothing in the cloud that Todoku made.")
    for thing in found.things:
        print(f"  - {thing.what}")
    if found.kept:
        print("This stays:")
    for line in found.kept:
        print(f"    {line}")


def _confirm(accepted: set[str], shown: str, given: str | None, json: bool) -> None:
    if given is None:
        if json or not sys.stdin.isatty():
            message = f"nothing was deleted: nobody can be asked here; add --confirm {shown}"
            cloud_parts.refuse(message, USAGE, as_json=json)
        given = typer.prompt(f"No mail can be sent afterwards. Type {shown} to delete all of it")
    if str(given).strip().lower() not in accepted:
        message = f"nothing was deleted: that is not {shown}"
        cloud_parts.refuse(message, FAILED, as_json=json)
