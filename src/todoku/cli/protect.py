"""`todoku protect`: what becomes of the attachments that leave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from todoku.cli import protect_held
from todoku.cli.parts.context import DONE, USAGE, Context, fail, print_json, require_root
from todoku.cli.parts.people import Json, refuse, say

if TYPE_CHECKING:
    from todoku.protect.agreed import Agreed
    from todoku.protect.plan import Read
    from todoku.protect.policy import Decided
    from todoku.protect.shelf import Shelf
    from todoku.settings import Settings

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Attachments that leave: what the policy does with them; and mail that is held for its attachments.",
)
app.add_typer(protect_held.app, name="held")
_MODES = {
    "link": "each recipient gets a link, with which the attachments are fetched from the page",
    "zip": "the attachments go as an encrypted ZIP",
    "pass": "the original is sent",
    "exclude": "the original is sent, whatever the subject says",
    "refuse": "the message is not taken",
}


@app.command("explain")
def explain(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.eml", help="A message, as mail programs save it.")],
    recipient: Annotated[str, typer.Argument(metavar="RECIPIENT", help="To whom it would be sent.")],
    sender: Annotated[
        str | None, typer.Option("--sender", help="Who would send it; the address in From without this.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what would become of a message's attachments for one recipient, which line of the settings decides, and why.
    Nothing is sent."""
    from todoku.protect import plan
    from todoku.protect.mime import TooComplex

    context: Context = ctx.obj
    settings = context.settings()
    try:
        raw = file.read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", USAGE)
    head, body = _split(raw)
    try:
        read = plan.read(settings.protect, head, body, _header(head, "Subject"))
    except TooComplex as problem:
        fail(f"{file}: such a message is refused: {problem}")
    who = (sender or _author(head)).lower()
    outcome = _outcome(settings, context.config, read, who, recipient.lower())
    if as_json:
        print_json({"ok": True, **outcome})
        raise SystemExit(DONE)
    say(f"{recipient}: {outcome['what']}.")
    say(f"Decided by {outcome['by']}.")
    if read.attachments:
        say("Attachments: " + ", ".join(each.name for each in read.attachments))


@app.command("list")
def list_offers(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what was given out by links: to whom, until when, and what became of it."""
    import time

    from todoku.protect.shelf import Shelf
    from todoku.protect.subject import one_line

    shelf = _shelf(ctx)
    found: list[dict[str, Any]] = []
    for offer in shelf.offers():
        events = shelf.events(offer.id)
        over = "taken back" if shelf.is_revoked(offer.id) else "over" if offer.expires <= time.time() else ""
        found.append(
            {
                "id": offer.id,
                "sender": offer.sender,
                "subject": one_line(offer.subject),
                "recipients": list(offer.links),
                "made": offer.made,
                "expires": offer.expires,
                "over": over,
                "events": events,
            }
        )
    if as_json:
        print_json({"ok": True, "offers": found})
        return
    if not found:
        say(f"Nothing was given out by links ({Shelf().root}).")
    for each in found:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["expires"]))
        fetched = sum(event["what"] == "fetched" for event in each["events"])
        state = each["over"] or f"until {until}"
        people = ", ".join(each["recipients"])
        say(
            f"{each['id'][:12]}  {each['sender']} to {people}: {each['subject']}  ({state}; fetched {fetched} times)"
        )


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    offer: Annotated[
        str, typer.Argument(metavar="ID", help="As `todoku protect list` shows it; its start will do.")
    ],
    as_json: Json = False,
) -> None:
    """Take back what was given out with one message: its links open nothing any more, and its files are removed."""
    shelf = _shelf(ctx)
    found = [each for each in shelf.offers() if len(offer) >= 6 and each.id.startswith(offer.lower())]
    if len(found) != 1:
        refuse(
            f"{'nothing' if not found else 'more than one'} begins with {offer}: see `todoku protect list`",
            USAGE,
            as_json=as_json,
        )
    again = shelf.is_revoked(found[0].id)
    if not again:
        shelf.revoke(found[0])
        shelf.note(found[0].id, "taken back", by="todoku protect revoke")
    if as_json:
        print_json({"ok": True, "id": found[0].id, "revoked": not again})
    else:
        say(
            "Nothing to do: it was taken back before."
            if again
            else f"Taken back from {', '.join(found[0].links)}."
        )


password = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Passwords for ZIPs that were agreed on with a partner; who has none gets a new one with each message.",
)
app.add_typer(password, name="password")
Partner = Annotated[str, typer.Argument(metavar="WHO", help="An address, or a domain with those below it.")]


@password.command("set")
def set_password(
    ctx: typer.Context,
    who: Partner,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the password from standard input.")] = False,
    as_json: Json = False,
) -> None:
    """Agree on a password: ZIPs to that address or domain get it. It is asked for, and never an argument."""
    import getpass
    import sys

    given = sys.stdin.readline().rstrip("\n") if stdin else getpass.getpass("Password: ")
    kept = _agreed(ctx)
    try:
        kept.set(_partner(who), given)
    except ValueError as error:
        refuse(str(error), USAGE, as_json=as_json)
    if as_json:
        print_json({"ok": True, "who": _partner(who)})
    else:
        say(f"ZIPs to {_partner(who)} get this password from now on.")


@password.command("list")
def list_passwords(ctx: typer.Context, as_json: Json = False) -> None:
    """Show with whom passwords were agreed on, without them."""
    found = _agreed(ctx).all()
    if as_json:
        print_json({"ok": True, "passwords": found})
    for who in () if as_json else found:
        say(who)


@password.command("remove")
def remove_password(ctx: typer.Context, who: Partner, as_json: Json = False) -> None:
    """ZIPs there get a new password with each message again."""
    if not _agreed(ctx).remove(_partner(who)):
        refuse(f"there was none for {who}: see `todoku protect password list`", USAGE, as_json=as_json)
    if as_json:
        print_json({"ok": True, "who": _partner(who)})
    else:
        say(f"ZIPs to {_partner(who)} get a new password with each message.")


def _partner(who: str) -> str:
    from todoku.settings.problems import WrongValueError
    from todoku.settings.protect import partner

    try:
        return partner(who)
    except WrongValueError as error:
        fail(str(error), USAGE)


def _agreed(ctx: typer.Context) -> Agreed:
    """As the gate's user, whose file it is."""
    from todoku.gate import srs
    from todoku.gate.protected import KEY
    from todoku.protect import agreed

    context: Context = ctx.obj
    context.settings()
    require_root("this")
    become("todoku-gate")
    return agreed.Agreed(agreed.FILE, srs.secret(KEY))


def become(user: str) -> None:
    """For the rest of the command: a link that somebody put there leads root nowhere."""
    import os
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        fail(f"there is no user {user}: run `todoku apply` first, which makes it")
    os.umask(0o007)
    os.setgroups([])
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)


def _shelf(ctx: typer.Context) -> Shelf:
    """The shelf, which is read and written as the page's user."""
    from todoku.protect import object_store
    from todoku.protect.shelf import Shelf

    context: Context = ctx.obj
    settings = context.settings()
    require_root("this")
    object_store.prepare(settings)
    shelf = Shelf(store=lambda: object_store.of(settings))
    if not shelf.root.exists():
        fail(f"there is no {shelf.root}: no links are given out on this machine")
    become("todoku-web")
    return shelf


def _outcome(settings: Settings, config: Path, read: Read, sender: str, recipient: str) -> dict[str, Any]:
    from todoku.protect.policy import decide

    names = [each.name for each in read.attachments]
    found: dict[str, Any] = {"mode": "pass", "line": None, "attachments": names, "subject": read.subject}
    if settings.is_own(recipient):
        return found | {"what": _MODES["pass"], "by": "the recipient's domain, which is yours"}
    if not settings.protect.on:
        line = _line(config, ("protect", "on"))
        return found | {
            "what": _MODES["pass"],
            "by": f"protect.on, which is false ({line[1]})",
            "line": line[0],
        }
    if read.why:
        return found | {"what": _MODES["pass"], "by": f"the message itself: {read.why}"}
    decided = decide(settings.protect, sender, recipient, read.content, read.asked.mode)
    number, place = _line(config, _key(decided))
    by = (
        decided.why if decided.rule is None else f"{decided.why}, [[protect.rules]] number {decided.rule + 1}"
    )
    if decided.why.startswith("the subject"):
        number, place = None, ""
    return found | {
        "mode": decided.mode.value,
        "what": _MODES[decided.mode.value],
        "by": f"{by} ({place})" if place else by,
        "line": number,
    }


def _key(decided: Decided) -> tuple[str | int, ...]:
    return ("protect", "default") if decided.rule is None else ("protect", "rules", decided.rule)


def _line(config: Path, key: tuple[str | int, ...]) -> tuple[int | None, str]:
    """Where the settings file says so."""
    from todoku.settings.lines import Lines

    found = Lines(config.read_text(encoding="utf-8")).find(key)
    return found, f"{config}:{found}" if found else f"not in {config}, so as it is unless you say otherwise"


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Header block and body, whatever the line ends."""
    raw = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def _header(head: bytes, name: str) -> str:
    from email.parser import BytesHeaderParser

    return str(BytesHeaderParser().parsebytes(head).get(name, ""))


def _author(head: bytes) -> str:
    from email.utils import parseaddr

    return parseaddr(_header(head, "From"))[1]
