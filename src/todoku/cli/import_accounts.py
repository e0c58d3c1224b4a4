"""`todoku import accounts`: the accounts of another system, from a CSV file or a passwd-file."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from todoku.cli.parts.context import FAILED, USAGE, Context, fail, print_json
from todoku.cli.parts.people import Json, directory, note, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from todoku.directory.moving import Mistake, Wanted


class Format(StrEnum):
    csv = "csv"
    passwd_file = "passwd-file"  # noqa: S105 - a kind of file


def accounts(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file with the accounts.")],
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format", help="What the file is (default: csv when its name ends so, else passwd-file)."
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain", help="For users without a domain in a passwd-file (default: the first one)."
        ),
    ] = None,
    generate: Annotated[
        bool,
        typer.Option(
            "--generate",
            help="Make passwords for those who have none, and show them once.",
            show_default=False,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be made, and what is wrong.", show_default=False),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the accounts of a file: all of them, or none when one line is wrong. Can be run again.

    A CSV file begins with a line of names, of which only address is needed: address,password,hash,quota,more. A
    passwd-file is Dovecot's. Hashes are kept when they are strong ones (ARGON2ID, ARGON2I, BLF-CRYPT, SHA512-CRYPT,
    SHA256-CRYPT, yescrypt).
    """
    from todoku.directory import moving, passwords

    context: Context = ctx.obj
    settings = context.settings()
    text = _read(file)
    is_csv = (kind or (Format.csv if file.suffix.lower() == ".csv" else Format.passwd_file)) is Format.csv
    if is_csv:
        wanted, mistakes = moving.read_csv(text)
    else:
        wanted, mistakes = moving.read_passwd_file(text, domain or settings.domains[0].name)
    if mistakes:
        _refuse(file, mistakes, as_json=as_json)
    without = [each for each in wanted if each.password is None and each.hashed is None]
    if without and not generate:
        words = "has no password: write one, or its hash, or use --generate"
        _refuse(
            file, [moving.Mistake(each.line, f"{each.address} {words}") for each in without], as_json=as_json
        )
    new = {each.line: passwords.generate() for each in without}
    complete = [replace(each, password=new.get(each.line, each.password)) for each in wanted]
    _make(ctx, file, complete, {} if dry_run else new, dry_run=dry_run, as_json=as_json)


def _make(
    ctx: typer.Context,
    file: Path,
    wanted: Sequence[Wanted],
    new: dict[int, str],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    with directory(ctx, "importing accounts", as_json=as_json) as people:
        came = people.import_accounts(wanted, dry_run=dry_run)
        if came.mistakes:
            _refuse(file, came.mistakes, as_json=as_json)
        logins = [account.login for account in came.made.values()]
        shown = {account.login: new[line] for line, account in came.made.items() if line in new}
        if as_json:
            print_json(
                {"ok": True, "dry_run": dry_run, "made": logins, "present": came.present, "passwords": shown}
            )
            return
        would = "would be made" if dry_run else "made"
        for account in came.made.values():
            password = (
                f"  password (shown only now): {shown[account.login]}" if account.login in shown else ""
            )
            say(f"{account.login}{password}")
        say(f"{len(came.made)} accounts {would}, {len(came.present)} were here already.")
        for remark in people.people().remarks():
            note(remark)


def _read(file: Path) -> str:
    from todoku.directory import moving

    try:
        if file.stat().st_size > moving.LARGEST:
            fail(
                f"{file} is larger than {moving.LARGEST // 1_000_000} MB: this is no file of accounts", USAGE
            )
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"{file} is not UTF-8 (byte {error.start}): save it in that encoding", USAGE)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", USAGE)


def _refuse(file: Path, mistakes: Sequence[Mistake], *, as_json: bool) -> NoReturn:
    if as_json:
        told = [{"line": each.line, "words": each.words} for each in mistakes]
        print_json({"ok": False, "error": f"{file}: nothing was imported", "mistakes": told})
    lines = "\n".join(f"{file}: {each}" for each in mistakes)
    fail(f"{lines}\nNothing was imported: {len(mistakes)} lines have to be put right.", FAILED)
