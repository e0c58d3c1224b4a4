"""`todoku credential`: the user name and password with which this host logs in to the relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts import cloud as cloud_parts
from todoku.cli.parts.context import DONE, FAILED, USAGE, Context, print_json, require_root

if TYPE_CHECKING:
    from todoku.settings import Settings

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="The relay's credential: its state, and a new one."
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]


@app.command("status")
def status(ctx: typer.Context, json: Json = False) -> None:
    """Show the SMTP credentials of the sending user, and which of them this host uses. Never a password."""
    from todoku.cloud.smtp_credential import description_of, sort
    from todoku.host.client import Host
    from todoku.plan.trouble import EXPECTED, explain

    require_root("`todoku credential status`")
    context: Context = ctx.obj
    settings = context.settings()
    client = cloud_parts.cloud(settings)
    user_name = _user(settings, json)
    try:
        user = client.user(user_name)
        credentials = client.smtp_credentials(user) if user is not None else []
    except EXPECTED as error:
        cloud_parts.refuse(explain(error), FAILED, as_json=json)
    seen = sort(
        credentials, cloud_parts.keeper(settings, Host()).username(), description_of(settings.hostname)
    )
    if json:
        rows = [
            {
                "username": each.username,
                "description": each.description,
                "created": each.created.isoformat() if each.created else None,
                "in_use": each is seen.in_use,
            }
            for each in credentials
        ]
        print_json({"ok": seen.in_use is not None, "user": user_name, "credentials": rows})
    else:
        for each in credentials:
            mark = "in use " if each is seen.in_use else "       "
            made = f"{each.created:%Y-%m-%d}" if each.created else "at an unknown time"
            print(f"{mark} {each.username}  made {made}  {each.description}")
        if seen.in_use is None:
            print("This host has no credential that the cloud knows: `todoku apply` makes one.")
    raise SystemExit(DONE if seen.in_use is not None else FAILED)


@app.command("rotate")
def rotate(ctx: typer.Context, json: Json = False) -> None:
    """Replace the credential while mail flows. Can be stopped at any point and run again."""
    from contextlib import ExitStack

    from todoku.cli.plan import LOCK
    from todoku.cloud import credential_rotation
    from todoku.cloud.credential_rotation import Steps
    from todoku.host.client import Host
    from todoku.plan.lock import LockedError, exclusive
    from todoku.plan.trouble import EXPECTED, explain

    require_root("`todoku credential rotate`")
    context: Context = ctx.obj
    settings = context.settings()
    client = cloud_parts.cloud(settings)
    user_name = _user(settings, json)
    host = Host()
    steps = Steps(
        keeper=cloud_parts.keeper(settings, host),
        relay=cloud_parts.relay(settings),
        reload=lambda: cloud_parts.have_postfix_read(settings, host),
        say=lambda text: None if json else print(text, flush=True),
    )
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(LOCK, "`todoku apply`"))
            done = credential_rotation.rotate(user_name, settings.hostname, client, steps)
        except LockedError as error:
            cloud_parts.refuse(str(error), FAILED, as_json=json)
        except EXPECTED as error:
            cloud_parts.refuse(explain(error), FAILED, as_json=json)
    if json:
        print_json(
            {
                "ok": True,
                "username": done.username,
                "deleted": list(done.deleted),
                "resumed": done.resumed,
            }
        )
    else:
        print(f"This host logs in as {done.username}.")
        for old in done.deleted:
            print(f"Deleted: {old}")


def _user(settings: Settings, json: bool) -> str:
    """The sending user's name; the program ends with code 2 where Todoku does not make the credential."""
    if settings.cloud is None or not settings.cloud.manage_iam:
        message = "cloud.manage_iam is false, so the credential is yours to replace: make one in the console"
        cloud_parts.refuse(message, USAGE, as_json=json)
    return settings.cloud.user
