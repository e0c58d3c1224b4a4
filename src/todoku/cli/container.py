"""`todoku container`: the first process of the container image, and its health check."""

from __future__ import annotations

import typer

from todoku.cli.parts.context import DONE, FAILED, Context, fail, print_json, require_root
from todoku.cli.parts.people import Json

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Inside the container image: its first process, and its health check.",
)


@app.command("start")
def start(ctx: typer.Context) -> None:
    """Put the settings into force, and keep mail going until the container is stopped."""
    require_root("`todoku container start`")
    context: Context = ctx.obj
    context.settings()
    from todoku.host import container

    try:
        container.prepare()
    except (container.NotPrepared, OSError) as error:
        fail(f"todoku container: {error}")
    raise SystemExit(
        container.Init(context.config, lambda line: print(f"todoku container {line}", flush=True)).run()
    )


@app.command("check")
def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Send a probe through all parts: Postfix, gate, queue, Dovecot, and the agent's ledger. Exit code 1: one failed.

    The probe goes to an account of its own, todoku-health@ the first domain, which is made when it is missing; all
    mail in it is removed by each probe.
    """
    require_root("`todoku container check`")
    context: Context = ctx.obj
    settings = context.settings()
    from todoku.cli.parts import container_probe

    seen = container_probe.Probe(settings).send()
    if as_json:
        print_json(
            {
                "ok": not seen.failed,
                "passed": list(seen.passed),
                "failed": seen.failed,
                "seconds": seen.seconds,
            }
        )
    else:
        print(
            f"{', '.join(seen.passed)}: {seen.seconds:.1f} s" if not seen.failed else seen.failed, flush=True
        )
    raise SystemExit(FAILED if seen.failed else DONE)
