"""`todoku list` and `todoku subscriber`: who gets bulk mail, and what they agreed to."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts.bulk import Address, ListName, opened
from todoku.cli.parts.context import FAILED, print_json
from todoku.cli.parts.people import Json, refuse, say

if TYPE_CHECKING:
    from todoku.campaign.importing import Report

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Lists: who gets bulk mail.")
person_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Subscribers: one person on the lists."
)


@app.command("add")
def add(
    ctx: typer.Context,
    name: ListName,
    title: Annotated[str, typer.Option("--title", help="What people read: the list's name.")],
    consent: Annotated[str, typer.Option("--consent", help="What they agree to, as the form says it.")],
    single: Annotated[
        bool,
        typer.Option("--single-opt-in", help="Whether the form is enough, without a confirmation by mail."),
    ] = False,
    closed: Annotated[
        bool, typer.Option("--closed", help="Whether there is no form: only you put people on it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a list. Its form is at URL/subscribe/LIST, unless it is closed."""
    from todoku.campaign import lists

    with opened(ctx, "making a list", as_json=as_json) as here:
        lists.create(here, name, title, consent, double=not single, is_open=not closed)
        form = "" if closed else f"{here.wanted.url}/subscribe/{name}"
    if as_json:
        print_json({"ok": True, "list": name, "form": form or None})
    else:
        say(f"The list {name} is there." + (f" People subscribe at {form}" if form else ""))


@app.command("show")
def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the lists, and how many are on them."""
    from todoku.campaign import lists

    with opened(ctx, "showing the lists", as_json=as_json) as here:
        found = lists.overview(here)
    if as_json:
        print_json({"ok": True, "lists": found})
        return
    if not found:
        say("There are no lists yet: `todoku list add` makes one.")
    for each in found:
        counts = ", ".join(f"{count:,} {state}" for state, count in each["subscribers"].items() if count)
        say(f"{each['name']}  {each['title']}  {counts or 'nobody'}")


@app.command("import")
def import_file(
    ctx: typer.Context,
    name: ListName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV; the first line names the columns.")],
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    despite: Annotated[
        bool, typer.Option("--despite-faults", help="Import the good lines of a file that has bad ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put people on a list: columns "address", "evidence" (when and how they agreed), and attributes of any name."""
    from todoku.campaign import importing

    with opened(ctx, "importing", as_json=as_json) as here:
        report = importing.run(here, name, file, dry=dry, despite_faults=despite)
    failed = bool(report.faults) and not report.done
    if as_json:
        print_json({"ok": not failed, **asdict(report)})
    else:
        _tell(report, dry)
    raise typer.Exit(FAILED if failed else 0)


def _tell(report: Report, dry: bool) -> None:
    for fault in report.faults:
        say(f"line {fault.number}: {fault.words}")
    for each in report.passed_over:
        say(f"line {each.number}: passed over: {each.words}")
    if report.faults and not report.done and not dry:
        say("Nothing was imported. Correct the file, or leave the bad lines out with --despite-faults.")
        return
    verb = "would be added" if dry else "were added"
    say(
        f"{report.added:,} {verb}, {report.known:,} were on the list already, {len(report.passed_over):,} passed over."
    )
    if report.without_evidence:
        say(
            f"Of {report.without_evidence:,} it is not known how they agreed: a campaign to them needs a reason."
        )


@person_app.command("add")
def add_person(
    ctx: typer.Context,
    name: ListName,
    address: Address,
    evidence: Annotated[str, typer.Option("--evidence", help="When and how they agreed.")],
    language: Annotated[str, typer.Option("--language", help="Of the pages: ja or en.")] = "ja",
    as_json: Json = False,
) -> None:
    """Put one person on a list who has agreed to it. Who has unsubscribed is not put on it again."""
    from todoku.campaign import lists, persons
    from todoku.campaign.errors import NotSoError
    from todoku.campaign.lists import Evidence, Membership

    with opened(ctx, "adding a subscriber", as_json=as_json) as here:
        address = lists.check_address(address)
        if language not in ("ja", "en"):
            raise NotSoError("the language is ja or en")
        if not evidence.strip():
            raise NotSoError("the evidence is empty: write when and how they agreed")
        with here.write() as connection:
            found = lists.find(connection, name)
            known = lists.subscriber(connection, address)
            held = None if known is None else lists.membership(connection, found.id, known.id)
            if held is not None and held.state == Membership.UNSUBSCRIBED:
                raise NotSoError(
                    f"{address} has unsubscribed: they can come back by the form, or by their preferences"
                )
            if known is not None and known.blocked:
                raise NotSoError(f"{address} has {known.blocked}, and gets nothing")
            if persons.is_forgotten(here, connection, address):
                raise NotSoError(f"{address} asked to be forgotten: they can come back by the form")
            number = lists.put_subscriber(connection, address, {}, language, here.clock())
            said = Evidence("added", f"typed by {getpass.getuser()}", evidence)
            lists.set_membership(connection, found.id, number, Membership.CONFIRMED, said, here.clock())
    if as_json:
        print_json({"ok": True, "address": address, "list": name})
    else:
        say(f"{address} is on the list {name}.")


@person_app.command("show")
def show_person(ctx: typer.Context, address: Address, as_json: Json = False) -> None:
    """Print everything that is kept of a person: for them, when they ask."""
    from todoku.campaign import persons
    from todoku.cli.parts.ledger import moment

    with opened(ctx, "showing a subscriber", as_json=as_json) as here:
        kept = persons.export(here, address)
    if as_json:
        print_json({"ok": True, **kept})
        return
    say(f"{kept['address']}  since {moment(kept['created'])}  language {kept['language']}")
    if kept["blocked"]:
        say(f"gets nothing: {kept['blocked']}")
    for name, value in kept["attributes"].items():
        say(f"{name} = {value}")
    for each in kept["lists"]:
        say(f"list {each['list']}: {each['state']} since {moment(each['since'])}")
    for each in kept["consent"]:
        say(f"{moment(each['time'])}  {each['list']}: {each['what']} ({each['source']}) {each['text']}")
    for each in kept["messages"]:
        later = f", later {each['later']}" if each["later"] else ""
        say(f"campaign {each['campaign']}: {each['state']}{later}")


@person_app.command("unsubscribe")
def unsubscribe(ctx: typer.Context, name: ListName, address: Address, as_json: Json = False) -> None:
    """Take a person off a list, at their word."""
    from todoku.campaign import lists
    from todoku.campaign.errors import NotKnownError

    with opened(ctx, "unsubscribing", as_json=as_json) as here, here.write() as connection:
        found = lists.find(connection, name)
        person = lists.subscriber(connection, lists.check_address(address))
        if person is None or lists.membership(connection, found.id, person.id) is None:
            raise NotKnownError(f"{address} is not on the list {name}")
        source = f"typed by {getpass.getuser()}"
        changed = lists.unsubscribe(connection, found.id, person.id, source, here.clock())
    if as_json:
        print_json({"ok": True, "changed": changed})
    else:
        say(f"{address} is unsubscribed." if changed else "Nothing to do: they were unsubscribed.")


@person_app.command("forget")
def forget(
    ctx: typer.Context,
    address: Address,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete everything that is kept of a person. No import brings them back; only they themselves can."""
    from todoku.campaign import persons

    with opened(ctx, "forgetting a subscriber", as_json=as_json) as here:
        if not yes and not typer.confirm(f"Delete everything that is kept of {address}?"):
            refuse("Nothing was deleted.", FAILED, as_json=as_json)
        persons.forget(here, address)
    if as_json:
        print_json({"ok": True})
    else:
        say(
            f"Nothing is kept of {address} in the lists any more. Backups from before have it until they are deleted, "
            "and the record of deliveries (`todoku trace`) for as long as ledger.days says."
        )
