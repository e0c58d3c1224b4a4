"""`todoku certificate`: the certificates that are served, and new ones in time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from todoku.cli.parts.context import DONE, FAILED, Context, print_json, require_root

if TYPE_CHECKING:
    from todoku.host.client import Host

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="The server's certificates: their state, and new ones."
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
_PATIENCE = 600.0  # seconds that a running `todoku apply` is waited for


@app.command("renew")
def renew(
    ctx: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Get a new one though the present one has time left (acme only).")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing when there is nothing to do.")] = False,
    as_json: Json = False,
) -> None:
    """Renew what is due, have it served, and look whether it is. A timer runs this twice a day."""
    from todoku.cli.parts import renewal

    require_root("`todoku certificate renew`")
    context: Context = ctx.obj
    settings = context.settings()
    done: list[str] = []
    failed: dict[str, str] = {}
    if force or renewal.is_due(settings, context.config):
        with ExitStack() as held:
            _lock(held, as_json)
            done, failed = renewal.renew(settings, context.config, force=force)
    renewal.report(failed)
    if as_json:
        print_json({"ok": not failed, "done": done, "failed": failed})
    else:
        for line in done:
            print(f"done: {line}")
        for name, why in failed.items():
            print(f"failed: {name}: {why}")
        if not done and not failed and not quiet:
            print("Nothing to do.")
    raise SystemExit(FAILED if failed else DONE)


@app.command("status")
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the certificates: for whom, from whom, how long, and whether each port shows them. Exit code 1: not."""
    from todoku.host.certificates.resources import shown
    from todoku.host.certificates.served import amiss
    from todoku.host.client import Host

    context: Context = ctx.obj
    settings, host = context.settings(), Host()
    wanted = shown(settings)
    try:
        told = [_told(host, each) for each in wanted]
        wrong = [str(each) for each in amiss(host, wanted)]
    except PermissionError:
        require_root("`todoku certificate status`")
        raise
    ok = not wrong and all(each["problem"] is None for each in told)
    if as_json:
        print_json({"ok": ok, "certificates": told, "wrong": wrong})
        raise SystemExit(DONE if ok else FAILED)
    for each in told:
        print(f"{each['name']}  {each['file']}")
        print(f"    {each['problem'] or 'signed by ' + each['issuer'] + ', good until ' + each['until']}")
    for line in wrong:
        print(line)
    if not wrong:
        print("Ports 25, 465, 587 and 993 show them.")
    raise SystemExit(DONE if ok else FAILED)


def _lock(held: ExitStack, as_json: bool) -> None:
    """The lock of `todoku apply`, which changes the same things."""
    from todoku.cli.parts import cloud as cloud_parts
    from todoku.cli.plan import LOCK
    from todoku.plan.lock import LockedError, exclusive

    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            held.enter_context(exclusive(LOCK, "`todoku apply`"))
        except LockedError as error:
            if time.monotonic() > deadline:
                cloud_parts.refuse(str(error), FAILED, as_json=as_json)
            time.sleep(1.0)
        else:
            return


def _told(host: Host, shown: Any) -> dict[str, Any]:
    from cryptography import x509

    content = host.read(shown.path)
    told = {"name": shown.name, "file": shown.path, "issuer": "", "until": "", "problem": None}
    try:
        first = x509.load_pem_x509_certificates(content or b"")[0]
    except ValueError:
        return told | {"problem": "there is no certificate that could be read"}
    left = first.not_valid_after_utc.timestamp() - time.time()
    problem = None if left > 0 else "it has ended"
    issuer = "itself" if first.issuer == first.subject else first.issuer.rfc4514_string()
    return told | {"issuer": issuer, "until": f"{first.not_valid_after_utc:%Y-%m-%d}", "problem": problem}
