"""`todoku import mail`: the mail of an account, from another server over IMAP."""

from __future__ import annotations

import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts.context import DONE, FAILED, USAGE, fail, print_json
from todoku.cli.parts.people import Json, directory, note, refuse, say

if TYPE_CHECKING:
    from todoku.moving.book import Book
    from todoku.moving.copying import Counts, Source

_ATTEMPTS = 5  # after each of them the next one goes on where it was
_PAUSE = 5.0  # seconds, longer each time


def mail(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose mailbox here gets the mail.")],
    host: Annotated[str, typer.Option("--from", metavar="HOST", help="The server that has the mail now.")],
    login: Annotated[
        str | None, typer.Option("--login", help="The login there (default: the account's address).")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", help="A file with the password there, readable by you alone (default: asked)."
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Its IMAP port.")] = 993,
    starttls: Annotated[
        bool,
        typer.Option(
            "--starttls", help="TLS begins within the connection, as on port 143.", show_default=False
        ),
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", help="The authority (PEM) that its certificate is from, if a private one."),
    ] = None,
    folder: Annotated[
        list[str] | None, typer.Option("--folder", help="Only this folder; may be given several times.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only log in and count.", show_default=False)
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy the mail of an account from another server, with folders, flags and dates. Can be run again at any time.

    What was copied is not copied again, also after it was broken off, or killed. Nothing is changed at the server, and
    its certificate has to be right.
    """
    from todoku.moving.book import Book, BookError
    from todoku.moving.copying import CopyError, Interrupted, Source

    with directory(ctx, "importing mail", as_json=as_json) as people:
        known = people.account(account)
    if ca_file is not None and not ca_file.is_file():
        refuse(f"--ca-file {ca_file}: there is no such file", USAGE, as_json=as_json)
    there = login or known.address
    source = Source(
        host,
        port,
        there,
        _password(password_file, there, as_json=as_json),
        starttls,
        str(ca_file) if ca_file else None,
    )
    try:
        book = Book.open(f"{host}:{port}", there, known.login)
    except BookError as error:
        refuse(str(error), FAILED, as_json=as_json)
    tell = _Teller(quiet=as_json)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            counts = _once(source, known.login, book, tell, frozenset(folder or ()), dry_run=dry_run)
            break
        except Interrupted as error:
            if attempt == _ATTEMPTS:
                refuse(
                    f"{error}. What was copied stays: run this again, and it goes on", FAILED, as_json=as_json
                )
            note(f"{error}; going on in {_PAUSE * attempt:.0f} s")
            time.sleep(_PAUSE * attempt)
        except (CopyError, OSError) as error:
            refuse(str(error), FAILED, as_json=as_json)
    _conclude(counts, dry_run=dry_run, as_json=as_json)


def _once(
    source: Source, login: str, book: Book, tell: _Teller, only: frozenset[str], *, dry_run: bool
) -> Counts:
    from todoku.moving import copying

    client = copying.connect(source)
    try:
        ours = copying.mailbox(login)
        try:
            return copying.Copying(client, ours, book, tell).run(only=only, dry_run=dry_run)
        finally:
            with suppress(Exception):
                ours.logout()
    finally:
        with suppress(Exception):
            client.logout()


class _Teller:
    """One line for each folder, and one now and then within a long one."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._said = quiet, time.monotonic()

    def __call__(self, counts: Counts) -> None:
        if self._quiet or (counts.seen < counts.total and time.monotonic() - self._said < 5.0):
            return
        self._said = time.monotonic()
        say(f"{counts.folder}: {counts.seen} of {counts.total}")


def _conclude(counts: Counts, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "ok": not counts.failed, "dry_run": dry_run, "copied": counts.copied, "present": counts.present,
                "bytes": counts.octets, "failed": counts.failed, "left_out": counts.left_out,
            }
        )  # fmt: skip
    else:
        verb = "would be copied" if dry_run else "copied"
        say(f"{counts.copied} messages {verb}, {counts.present} were here already.")
        for name in counts.left_out:
            note(f"{name} was left out: it holds no messages of its own")
        for words in counts.failed:
            note(f"not copied: {words}")
    raise SystemExit(FAILED if counts.failed else DONE)


def _password(file: Path | None, login: str, *, as_json: bool) -> str:
    if file is None:
        if not sys.stdin.isatty():
            refuse(
                "there is no terminal to type the password at: write it into a file, and use --password-file",
                USAGE,
                as_json=as_json,
            )
        try:
            return str(typer.prompt(f"Password of {login} at the other server", hide_input=True, err=True))
        except (typer.Abort, UnicodeDecodeError):
            fail("\nnothing was copied: no password was typed")
    try:
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            refuse(f"{file} can be read by others: chmod 600 {file}", USAGE, as_json=as_json)
        return file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"--password-file {file}: {error}", USAGE, as_json=as_json)
