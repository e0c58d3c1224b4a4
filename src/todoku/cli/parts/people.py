"""What the commands for accounts and aliases share: opening the directory, and telling what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from todoku.cli.parts.context import FAILED, USAGE, Context, fail, print_json, require_root

if TYPE_CHECKING:
    from todoku.directory import Account, Alias, Directory
    from todoku.directory.resolution import Resolution

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@contextmanager
def directory(ctx: typer.Context, what: str, *, as_json: bool) -> Iterator[Directory]:
    """The directory of this machine; what it refuses is told, and ends the program with its exit code."""
    context: Context = ctx.obj
    settings = context.settings()
    require_root(what)
    # Heavy: SQLAlchemy and Alembic.
    from todoku.directory import DirectoryError, place
    from todoku.store import StoreError

    try:
        yield place.HERE.open(settings)
    except (DirectoryError, StoreError) as error:
        refuse(str(error), USAGE if getattr(error, "wrong_usage", False) else FAILED, as_json=as_json)


def refuse(message: str, code: int, *, as_json: bool) -> NoReturn:
    """End with `code` and the reason: on standard error, and as an object when that is what was asked for."""
    if as_json:
        print_json({"ok": False, "error": message})
    fail(message, code)


def say(text: str) -> None:
    """A line for people, on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """Something to know beside the answer, on standard error."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def account_json(account: Account, people: Resolution) -> dict[str, Any]:
    """An account as `--json` shows it: never with the hash of its password."""
    from todoku.directory.addresses import readable

    return {
        "login": account.login,
        "address": account.address,
        "address_unicode": readable(account.address),
        "more_addresses": list(account.more),
        "send_as": list(people.held.granted(account.login)),
        "quota": people.settings.accounts.quota if account.quota is None else account.quota,
        "quota_is_default": account.quota is None,
        "created": account.created,
        "in_use": not people.problem(account),
        "remark": account_remark(account, people),
    }


def account_remark(account: Account, people: Resolution) -> str:
    """What is special about an account, in words; mostly empty."""
    if problem := people.problem(account):
        return problem
    unused = [address for address in account.more if not people.settings.is_own(address)]
    return f"not in use: {', '.join(unused)} (domain no longer in the settings)" if unused else ""


def alias_json(alias: Alias, people: Resolution) -> dict[str, Any]:
    """An alias as `--json` shows it."""
    from todoku.directory.addresses import readable

    return {
        "address": alias.address,
        "address_unicode": readable(alias.address),
        "targets": list(alias.targets),
        "remark": alias_remark(alias, people),
    }


def alias_remark(alias: Alias, people: Resolution) -> str:
    """What is wrong with an alias, in words; mostly empty."""
    if not people.settings.is_own(alias.address):
        return f"not in use: the domain {alias.address.rpartition('@')[2]} is no longer in the settings"
    if dead := people.dead_ends(alias.targets):
        return f"nobody gets mail at {', '.join(dead)}"
    return ""
