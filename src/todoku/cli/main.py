"""The `todoku` command: the groups of commands, and the options that all of them share.

Everything heavy is imported inside the commands, so that `todoku --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from todoku import __version__
from todoku.cli import (
    account,
    account_setup,
    alias,
    backup,
    bulk_lists,
    ca,
    campaign,
    certificate,
    check,
    container,
    credential,
    destroy,
    dkim,
    dns,
    explain,
    importing,
    init,
    journey,
    plan,
    protect,
    rehearse,
    restore,
    status,
    suppression,
)
from todoku.cli import settings as settings_commands
from todoku.cli.parts.context import Context

app = typer.Typer(
    rich_markup_mode=None,
    name="todoku",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Own-domain mail that arrives: one file is planned, applied, rehearsed and proven.",
    epilog="Exit codes: 0 done or nothing to do, 1 failed or findings, 2 wrong usage or settings.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"todoku {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="TODOKU_CONFIG", help="The settings file.")
    ] = Path("/etc/todoku/todoku.toml"),
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    ctx.obj = Context(config)
    restore.go_on_with_a_decided_one()


app.command("init")(init.init)
app.add_typer(settings_commands.app, name="settings")
app.command("plan")(plan.plan)
app.command("apply")(plan.apply)
account.app.command("setup")(account_setup.setup)
app.add_typer(account.app, name="account")
app.add_typer(alias.app, name="alias")
app.command("status")(status.status)
app.command("trace")(journey.trace)
app.command("queue")(journey.queue)
app.command("stats")(journey.stats)
app.add_typer(suppression.app, name="suppression")
app.add_typer(bulk_lists.app, name="list")
app.add_typer(bulk_lists.person_app, name="subscriber")
app.add_typer(campaign.app, name="campaign")
app.add_typer(dns.app, name="dns")
app.add_typer(dkim.app, name="dkim")
app.add_typer(credential.app, name="credential")
app.add_typer(certificate.app, name="certificate")
app.add_typer(ca.app, name="ca")
app.add_typer(check.app, name="check")
app.command("explain")(explain.explain)
app.add_typer(protect.app, name="protect")
app.command("destroy")(destroy.destroy)
app.add_typer(container.app, name="container")
app.add_typer(importing.app, name="import")
app.command("backup")(backup.backup)
app.command("restore")(restore.restore)
app.command("rehearse")(rehearse.rehearse)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
