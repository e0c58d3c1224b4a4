"""`todoku account`: who has a mailbox here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from todoku.cli import send_as
from todoku.cli.parts import cloud as cloud_parts
from todoku.cli.parts import people as shared
from todoku.cli.parts.context import USAGE, fail, print_json
from todoku.cli.parts.people import Json, directory, note, refuse, say

if TYPE_CHECKING:
    from todoku.directory import Account, Directory, Removed

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Accounts: who has a mailbox here, with which addresses.",
)
address_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Further addresses of an account."
)
app.add_typer(address_app, name="address")
app.add_typer(send_as.app, name="send-as")

Generate = Annotated[
    bool, typer.Option("--generate", help="Make a strong password and show it once.", show_default=False)
]
FromStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input.", show_default=False),
]
Name = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's login or one of its addresses.")]


@app.command("add")
def add(
    ctx: typer.Context,
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="The primary address; in system mode a user name will do."),
    ],
    more: Annotated[
        list[str] | None, typer.Option("--address", help="A further address; may be given several times.")
    ] = None,
    quota: Annotated[
        str | None, typer.Option("--quota", help="How much mail it may hold: 5GB; 0 for no limit.")
    ] = None,
    generate: Generate = False,
    password_stdin: FromStdin = False,
    as_json: Json = False,
) -> None:
    """Make an account. Its password is typed twice, unless it is generated or comes from standard input."""
    size = None if quota is None else _size(quota, as_json=as_json)
    _one_way_only(generate, password_stdin, as_json=as_json)
    with directory(ctx, "adding an account", as_json=as_json) as people:
        # Checked before anybody types a password, and once more when it is stored.
        planned = people.planned_account(address, more or (), size)
        password = _new_password(planned, generate, password_stdin, as_json=as_json)
        made = people.add_account(address, password, more or (), size)
        shown = password if generate else None
        _tell_added(people, made, shown, as_json=as_json)


@app.command("list")
def list_accounts(ctx: typer.Context, as_json: Json = False) -> None:
    """Show all accounts."""
    with directory(ctx, "listing the accounts", as_json=as_json) as people:
        everybody = people.people()
    accounts = everybody.held.accounts
    if as_json:
        print_json({"ok": True, "accounts": [shared.account_json(each, everybody) for each in accounts]})
        return
    if not accounts:
        say("There are no accounts yet: `todoku account add ADDRESS` makes one.")
        return
    from todoku.directory.addresses import shown, shown_sender
    from todoku.settings.values import size_text

    rows = []
    for each in accounts:
        limit = everybody.settings.accounts.quota if each.quota is None else each.quota
        login = f"  login {each.login}" if each.is_system else ""
        rows.append(f"{shown(each.address)}{login}  {size_text(limit) if limit else 'no limit'}")
        rows += [f"    {shown(address)}" for address in each.more]
        rows += [f"    may send as {shown_sender(other)}" for other in everybody.held.granted(each.login)]
        if remark := shared.account_remark(each, everybody):
            rows.append(f"    ({remark})")
    say("\n".join(rows))
    for remark in everybody.remarks():
        note(remark)


@app.command("password")
def password(
    ctx: typer.Context,
    account: Name,
    generate: Generate = False,
    password_stdin: FromStdin = False,
    as_json: Json = False,
) -> None:
    """Give an account a new password; the old one stops working within a second."""
    _one_way_only(generate, password_stdin, as_json=as_json)
    with directory(ctx, "setting a password", as_json=as_json) as people:
        known = people.account(account)
        people.check_password_is_ours(known.login)
        new = _password(known.login, generate, password_stdin, as_json=as_json)
        people.set_password(known.login, new)
    if as_json:
        print_json({"ok": True, "login": known.login} | ({"password": new} if generate else {}))
        return
    say(f"{known.login} has a new password.")
    if generate:
        say(f"password (shown only now): {new}")


@app.command("remove")
def remove(
    ctx: typer.Context,
    account: Name,
    yes: Annotated[
        bool, typer.Option("--yes", help="Also take the account out of the aliases that lead to it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove an account. Its mail stays on the disk. Refused while aliases lead to it, unless --yes."""
    with directory(ctx, "removing an account", as_json=as_json) as people:
        if references := people.references(account):
            lines = "\n".join(f"  {each.address} -> {', '.join(each.targets)}" for each in references)
            if not yes:
                reason = f"{account} was not removed, because these aliases lead to it:\n{lines}\n"
                refuse(f"{reason}Use --yes to remove these entries as well.", 1, as_json=as_json)
        gone = people.remove_account(account, with_references=yes)
        remarks = people.people().remarks()
    if as_json:
        print_json(_removed_json(gone, remarks))
        return
    for each in gone.references:
        say(f"Removed from the alias {each.address}: {', '.join(each.targets)}.")
    for grant in gone.grants:
        say(f"{grant.login} may not send as {grant.sender} any more.")
    say(f"Removed {gone.account.login}. Its mail, if any, is kept in {gone.mail}.")
    for remark in remarks:
        note(remark)


@address_app.command("add")
def add_address(
    ctx: typer.Context,
    account: Name,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The further address.")],
    as_json: Json = False,
) -> None:
    """Give an account a further address: to receive with, and to send as."""
    with directory(ctx, "adding an address", as_json=as_json) as people:
        made = people.add_address(account, address)
        notes = cloud_parts.not_approved(people.people().settings, [address])
        _tell(people, made, as_json=as_json, notes=notes)


@address_app.command("remove")
def remove_address(
    ctx: typer.Context,
    account: Name,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The address to take away.")],
    as_json: Json = False,
) -> None:
    """Take a further address away from an account."""
    with directory(ctx, "removing an address", as_json=as_json) as people:
        _tell(people, people.remove_address(account, address), as_json=as_json)


def _size(text: str, *, as_json: bool) -> int:
    from pydantic_core import PydanticCustomError

    from todoku.settings.values import size

    try:
        return size(int(text) if text.isascii() and text.isdigit() else text)
    except PydanticCustomError as error:
        fix = (error.context or {}).get("fix", "")
        refuse(f"--quota {error.message()}: {fix}", USAGE, as_json=as_json)


def _one_way_only(generate: bool, password_stdin: bool, *, as_json: bool) -> None:
    if generate and password_stdin:
        refuse("--generate and --password-stdin exclude each other: leave one out", USAGE, as_json=as_json)


def _new_password(planned: Account, generate: bool, from_stdin: bool, *, as_json: bool) -> str | None:
    if planned.is_system:
        if generate or from_stdin:
            refuse(
                f"accounts.mode is system, so the password is that of the user {planned.login}: set it with "
                f"`passwd {planned.login}`, and leave the password options out",
                USAGE,
                as_json=as_json,
            )
        return None
    return _password(planned.login, generate, from_stdin, as_json=as_json)


def _password(login: str, generate: bool, from_stdin: bool, *, as_json: bool) -> str:
    from todoku.directory import passwords

    if generate:
        return passwords.generate()
    if not from_stdin and not sys.stdin.isatty():
        refuse(
            "there is no terminal to type the password at: use --generate, or --password-stdin and send "
            "it to standard input",
            USAGE,
            as_json=as_json,
        )
    typed = _from_stdin(as_json=as_json) if from_stdin else _typed(login)
    passwords.check(typed)
    return typed


def _from_stdin(*, as_json: bool) -> str:
    """All of standard input, without the line end that `echo` and editors put there."""
    try:
        text = sys.stdin.buffer.read(100_000).decode("utf-8")
    except UnicodeDecodeError:
        refuse(
            "the password on standard input is not UTF-8: send it in that encoding", USAGE, as_json=as_json
        )
    return text.removesuffix("\n").removesuffix("\r")


def _typed(login: str) -> str:
    from todoku.directory import passwords

    prompt = f"New password for {login} (at least {passwords.SHORTEST} characters)"
    try:
        return str(typer.prompt(prompt, hide_input=True, confirmation_prompt="The same once more", err=True))
    except (typer.Abort, UnicodeDecodeError):
        fail("\nnothing was changed: no password was typed")


def _tell_added(people: Directory, made: Account, shown: str | None, *, as_json: bool) -> None:
    everybody = people.people()
    notes = [*everybody.remarks(), *cloud_parts.not_approved(everybody.settings, made.addresses)]
    if (old := people.mail_folder(made)) and not made.is_system and _exists(old):
        notes.append(f"{old} holds mail of an earlier account of that name, which now is this account's")
    if as_json:
        answer: dict[str, Any] = {"ok": True, "account": shared.account_json(made, everybody), "notes": notes}
        print_json(answer | ({"password": shown} if shown is not None else {}))
        return
    from todoku.directory import addresses

    say(f"Made the account {addresses.shown(made.address)}, login {made.login}.")
    for address in made.more:
        say(f"It also has {addresses.shown(address)}.")
    if shown is not None:
        say(f"password (shown only now): {shown}")
    for each in notes:
        note(each)


def _tell(people: Directory, account: Account, *, as_json: bool, notes: Sequence[str] = ()) -> None:
    if as_json:
        shown = shared.account_json(account, people.people())
        print_json({"ok": True, "account": shown, "notes": list(notes)})
        return
    from todoku.directory import addresses

    say(f"{account.login} now has {', '.join(addresses.shown(each) for each in account.addresses)}.")
    for each in notes:
        note(each)


def _removed_json(gone: Removed, remarks: tuple[str, ...]) -> dict[str, Any]:
    return {
        "ok": True,
        "login": gone.account.login,
        "addresses": list(gone.account.addresses),
        "mail": str(gone.mail),
        "removed_references": [
            {"address": each.address, "targets": list(each.targets)} for each in gone.references
        ],
        "removed_grants": [{"login": each.login, "sender": each.sender} for each in gone.grants],
        "notes": list(remarks),
    }


def _exists(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:
        return False
