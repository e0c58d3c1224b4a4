"""`todoku dkim`: the keys that sign the domains' mail, and new ones."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from todoku.cli.parts import cloud as cloud_parts
from todoku.cli.parts.context import DONE, FAILED, Context, print_json, require_root

if TYPE_CHECKING:
    from todoku.cloud.dkim_rotation import KeyStatus, Rotation

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="DKIM keys: their state, and new ones.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Domain = Annotated[
    str | None, typer.Argument(metavar="DOMAIN", help="One of the domains; all of them if left out.")
]


@app.command("status")
def status(ctx: typer.Context, domain: Domain = None, json: Json = False) -> None:
    """Show the keys of the domains: selector, state, age, and when it is time for a new one."""
    from todoku.cloud import dkim_rotation
    from todoku.plan.trouble import EXPECTED, explain

    context: Context = ctx.obj
    settings = context.settings()
    client = cloud_parts.cloud(settings)
    try:
        names = list(cloud_parts.domains(settings, domain))
        keys = [key for name in names for key in dkim_rotation.status(name, client)]
    except EXPECTED as error:
        cloud_parts.refuse(explain(error), FAILED, as_json=json)
    signing = {key.domain for key in keys if key.role == "signs"}
    if json:
        print_json({"ok": signing == set(names), "keys": [_status_json(key) for key in keys]})
    else:
        for key in keys:
            age = _age(key.age_days)
            print(f"{key.domain}  {key.selector}  {key.state}  {key.role}  {age}")
            print(f"    {key.record} -> {key.target}")
            if key.advice:
                print(f"    {key.advice}")
        for name in names:
            if not any(key.domain == name for key in keys):
                print(f"{name}  has no DKIM key: `todoku apply` makes one")
    raise SystemExit(DONE if signing == set(names) else FAILED)


def _age(days: int | None) -> str:
    if days is None:
        return "age unknown"
    return "1 day old" if days == 1 else f"{days} days old"


@app.command("rotate")
def rotate(
    ctx: typer.Context,
    domain: Domain = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", help="How long to wait for the DNS and for Oracle."),
    ] = 5400.0,
    json: Json = False,
) -> None:
    """Bring in a new key while mail flows. Can be stopped at any point and run again: it goes on from there."""
    from todoku.cli.parts import dkim_records
    from todoku.cli.plan import LOCK
    from todoku.cloud import dkim_rotation
    from todoku.plan.lock import LockedError, exclusive
    from todoku.plan.trouble import EXPECTED, explain

    require_root("`todoku dkim rotate`")
    context: Context = ctx.obj
    settings = context.settings()
    client = cloud_parts.cloud(settings)

    def say(text: str) -> None:
        if not json:
            print(text, flush=True)

    done: list[Rotation] = []
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(LOCK, "`todoku apply`"))
            for name in cloud_parts.domains(settings, domain):
                publish, visible = dkim_records.publishing(settings, say)
                steps = dkim_rotation.Steps(publish=publish, visible=visible, say=say, wait=wait)
                done.append(dkim_rotation.rotate(name, client, steps))
        except LockedError as error:
            cloud_parts.refuse(str(error), FAILED, as_json=json)
        except EXPECTED as error:
            cloud_parts.refuse(explain(error), FAILED, as_json=json)
    if json:
        print_json({"ok": True, "rotations": [_rotation_json(each) for each in done]})
    else:
        for each in done:
            print(_sentence(each))


def _sentence(done: Rotation) -> str:
    from todoku.cloud.dkim_rotation import Stage

    lines = [f"{done.domain}: {done.stage.value}."]
    if done.detail:
        lines.append(f"  {done.detail}")
    if done.stage in (Stage.NOT_SEEN, Stage.NOT_ACTIVE):
        lines.append("  Mail goes on with the key that signs now. Run `todoku dkim rotate` again later.")
    elif done.stage is Stage.OLD_REMAINS and done.until is not None:
        lines.append(
            f"  {done.old} goes after {done.until:%Y-%m-%d %H:%M} UTC, by this command or `todoku apply`."
        )
    elif done.stage is Stage.DONE and done.old_record:
        lines.append(f"  The record {done.old_record} is not needed any more in a day.")
    return "\n".join(lines)


def _rotation_json(done: Rotation) -> dict[str, Any]:
    return {
        "domain": done.domain,
        "stage": done.stage.name.lower(),
        "current": done.current,
        "new": done.new,
        "old": done.old,
        "until": done.until.isoformat() if done.until else None,
        "detail": done.detail,
    }


def _status_json(key: KeyStatus) -> dict[str, Any]:
    return {
        "domain": key.domain,
        "selector": key.selector,
        "state": key.state,
        "role": key.role,
        "age_days": key.age_days,
        "record": key.record,
        "target": key.target,
        "advice": key.advice,
    }
