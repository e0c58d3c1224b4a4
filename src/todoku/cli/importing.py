"""`todoku import`: moving here from another system."""

from __future__ import annotations

import typer

from todoku.cli import import_accounts, import_mail

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Moving house: accounts and mail from another system.",
)
app.command("accounts")(import_accounts.accounts)
app.command("mail")(import_mail.mail)
