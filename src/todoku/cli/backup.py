"""`todoku backup`: settings, secrets and accounts, and the mail when asked for, locked into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts import locks
from todoku.cli.parts.context import FAILED, USAGE, Context, print_json, require_root
from todoku.cli.parts.people import note, refuse, say

if TYPE_CHECKING:
    from todoku.host.backup.backup import Key


def backup(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The backup; replaced once the new one is whole.")
    ],
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            "--recipient", metavar="KEY", help="Lock it for this public key of age (age1...) or SSH."
        ),
    ] = None,
    passphrase_file: locks.PassphraseFile = None,
    mail: Annotated[bool, typer.Option("--mail", help="With all mail.", show_default=False)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Save settings, secrets and accounts, locked with a passphrase or keys of age. Mail goes on meanwhile."""
    from todoku import store
    from todoku.host.backup import backup as making
    from todoku.host.client import Host

    context: Context = ctx.obj
    settings = context.settings()
    require_root("todoku backup")
    if recipient and passphrase_file:
        refuse("--recipient and --passphrase-file exclude each other: leave one out", USAGE, as_json=as_json)
    key = _key(recipient, passphrase_file, as_json=as_json)
    try:
        manifest = making.write(
            Host(),
            file,
            key,
            hostname=settings.hostname,
            schema=store.current_revision() or "",
            mail=mail,
        )
    except (making.BackupError, store.StoreError) as error:
        refuse(f"no backup was made: {error}", FAILED, as_json=as_json)
    except OSError as error:
        refuse(f"no backup was made: {error.strerror}: {error.filename or file}", FAILED, as_json=as_json)
    outside = not context.config.absolute().is_relative_to("/etc/todoku")
    if as_json:
        print_json(
            {
                "ok": True,
                "file": str(file),
                "files": len(manifest.files),
                "bytes": file.stat().st_size,
                "mail": mail,
            }
        )
    else:
        say(f"Saved {len(manifest.files)} files{', with all mail' if mail else ''}: {file}")
    if not mail:
        note(
            "mail is not in it: --mail takes it along; or copy /var/lib/todoku/mail with rsync (docs/backup.md)"
        )
    if outside:
        note(f"{context.config} is not below /etc/todoku, and not in it: save it as well")


def _key(recipients: list[str] | None, passphrase_file: Path | None, *, as_json: bool) -> Key:
    from todoku.host.backup.backup import BackupError, Key
    from todoku.host.backup.backup import recipient as check

    if not recipients:
        return Key(passphrase=locks.passphrase(passphrase_file, new=True, as_json=as_json))
    try:
        for text in recipients:
            check(text)
    except BackupError as error:
        refuse(f"--recipient: {error}", USAGE, as_json=as_json)
    return Key(recipients=tuple(recipients))
