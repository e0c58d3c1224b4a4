"""`todoku campaign`: one message to many."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from todoku.cli import campaign_look, campaign_preview
from todoku.cli.parts import bulk as bulk_parts
from todoku.cli.parts.bulk import CampaignName, opened
from todoku.cli.parts.context import FAILED, USAGE, print_json
from todoku.cli.parts.people import Json, note, refuse, say

if TYPE_CHECKING:
    from todoku.campaign.opened import Opened

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Campaigns: one message to many.\n\n"
    "With campaign.database in PostgreSQL, several machines can share the sending: docs/bulk.md.",
)


@app.command("create")
def create(
    ctx: typer.Context,
    name: CampaignName,
    list_name: Annotated[str, typer.Option("--list", help="The list that it goes to.")],
    subject: Annotated[str, typer.Option("--subject", help="The subject.")],
    text: Annotated[Path, typer.Option("--text", help="The file with the text.")],
    html: Annotated[Path | None, typer.Option("--html", help="The file with the HTML.")] = None,
    mjml: Annotated[Path | None, typer.Option("--mjml", help="The file with MJML, instead of HTML.")] = None,
    subject_b: Annotated[
        str | None, typer.Option("--subject-b", help="Another subject, which half of the people get.")
    ] = None,
    test_share: Annotated[
        int | None,
        typer.Option(
            "--test-share", metavar="PERCENT", help="The subjects go to so many first; the others wait."
        ),
    ] = None,
    decide_after: Annotated[
        str | None,
        typer.Option(
            "--decide-after", metavar="TIME", help='Then the others get the better one: "4h", "30m", "1d".'
        ),
    ] = None,
    decide_by: Annotated[
        str | None,
        typer.Option("--decide-by", help="clicks, opens or objections; else the best of what is counted."),
    ] = None,
    count_opens: Annotated[
        bool, typer.Option("--count-opens", help="Count who opens it (campaign.count_opens).")
    ] = False,
    count_clicks: Annotated[
        bool, typer.Option("--count-clicks", help="Count who clicks on which link (campaign.count_clicks).")
    ] = False,
    segment: Annotated[
        str, typer.Option("--segment", help='Only these: "city = Tokyo and plan != free".')
    ] = "",
    not_of: Annotated[
        str | None,
        typer.Option("--not-of", metavar="CAMPAIGN", help="Only those who have not had that one."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Why it goes to people of whom no consent is known. It is kept."),
    ] = None,
    attach: Annotated[list[str] | None, typer.Option("--attach", "--attachment", hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Make a campaign; nothing is sent yet. In the files {{ name }} is an attribute of the person, {{ unsubscribe }}
    the address at which they unsubscribe. There are no attachments: put the file on a page, and write its address."""
    from todoku.campaign import campaigns
    from todoku.campaign.template import Source, html_of_mjml
    from todoku.campaign.tracking import Counting
    from todoku.campaign.trial import Trial

    if attach:
        refuse(campaign_look.NO_ATTACHMENTS, USAGE, as_json=as_json)
    if test_share is None and (decide_after or decide_by):
        refuse("--decide-after and --decide-by need --test-share", USAGE, as_json=as_json)
    after = None if decide_after is None else bulk_parts.seconds(decide_after, as_json=as_json)
    trial = None if test_share is None else Trial(test_share, after, decide_by)
    if html is not None and mjml is not None:
        refuse("--html and --mjml: one of the two", USAGE, as_json=as_json)
    with opened(ctx, "making a campaign", as_json=as_json) as here:
        page = (
            _read(html, as_json=as_json)
            if html
            else html_of_mjml(_read(mjml, as_json=as_json))
            if mjml
            else None
        )
        source = Source(subject, _read(text, as_json=as_json), page, subject_b)
        campaigns.create(
            here,
            name,
            list_name,
            source,
            segment=segment,
            reason=reason,
            not_of=not_of,
            test=trial,
            counting=Counting(count_opens, count_clicks),
        )
        total = _numbers(here, name)["total"]
    if as_json:
        print_json({"ok": True, "campaign": name, "recipients": total})
    else:
        say(f"The campaign {name} has {total:,} recipients. Look at it with `todoku campaign check {name}`.")


@app.command("list")
def list_campaigns(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the campaigns, and what became of them."""
    from todoku.campaign import campaigns

    with opened(ctx, "showing the campaigns", as_json=as_json) as here:
        found = campaigns.overview(here)
    if as_json:
        print_json({"ok": True, "campaigns": found})
        return
    if not found:
        say("There are no campaigns yet: `todoku campaign create` makes one.")
    for each in found:
        counts = ", ".join(f"{count:,} {what}" for what, count in each["numbers"].items() if count)
        words = f" ({each['words']})" if each["words"] else ""
        say(f"{each['name']}  {each['state']}{words}  {counts or 'no recipients'}")


app.command("preview")(campaign_preview.preview)
app.command("check")(campaign_look.check)
app.command("test")(campaign_look.test)


@app.command("start")
def start(
    ctx: typer.Context,
    name: CampaignName,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help='When to begin, as "2026-12-01 09:00".')
    ] = None,
    after_restore: Annotated[
        bool,
        typer.Option("--after-restore", help="Also one that came out of a backup: some may get it twice."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Send it, or go on with one that is paused or has stopped itself; it is looked at before."""
    from todoku.campaign import campaigns

    with opened(ctx, "starting a campaign", as_json=as_json) as here:
        when = None if at is None else _moment(at, here.wanted.time_zone, as_json=as_json)
        findings, faults = campaign_look.look(here, name)
        if faults:
            refuse("It is not sent:\n" + "\n".join(faults), FAILED, as_json=as_json)
        left = _numbers(here, name)["ready"] + _numbers(here, name)["deferred"]
        if not as_json:
            _tell_how_long(here, left)
        if not yes and not as_json and not typer.confirm(f"Send {name} to {left:,} people?"):
            refuse("Nothing was sent.", FAILED, as_json=as_json)
        campaigns.start(here, name, when, after_restore=after_restore)
    if as_json:
        print_json({"ok": True, "recipients": left, "warnings": [each.as_json() for each in findings]})
    else:
        say(f"The campaign {name} is started. `todoku campaign progress {name}` shows how far it is.")


@app.command("pause")
def pause(ctx: typer.Context, name: CampaignName, as_json: Json = False) -> None:
    """Stop sending for now; `start` goes on."""
    from todoku.campaign import campaigns

    with opened(ctx, "pausing a campaign", as_json=as_json) as here:
        campaigns.pause(here, name)
    print_json({"ok": True}) if as_json else say(f"The campaign {name} is paused.")


@app.command("choose")
def choose(
    ctx: typer.Context,
    name: CampaignName,
    subject: Annotated[str, typer.Argument(metavar="a|b", help="The first subject, or the second.")],
    as_json: Json = False,
) -> None:
    """Say which of two subjects those get who wait for the end of a test."""
    from todoku.campaign import campaigns

    if subject not in ("a", "b"):
        refuse(f'"{subject}" is no subject: a or b', USAGE, as_json=as_json)
    with opened(ctx, "choosing a subject", as_json=as_json) as here:
        count = campaigns.choose(here, name, subject)
    print_json({"ok": True, "recipients": count}) if as_json else say(
        f"{count:,} people get subject {subject}."
    )


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    name: CampaignName,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Stop sending for good."""
    from todoku.campaign import campaigns

    with opened(ctx, "cancelling a campaign", as_json=as_json) as here:
        left = _numbers(here, name)["ready"] + _numbers(here, name)["deferred"]
        if not yes and not as_json and not typer.confirm(f"{left:,} people will not get it. Cancel {name}?"):
            refuse("Nothing was changed.", FAILED, as_json=as_json)
        campaigns.cancel(here, name)
    print_json({"ok": True}) if as_json else say(f"The campaign {name} is cancelled.")


@app.command("progress")
def progress(
    ctx: typer.Context,
    name: CampaignName,
    follow: Annotated[
        bool, typer.Option("--follow", help="Until it is finished; Ctrl-C ends the looking only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how far it is, how fast it goes, and when it will be done at that pace."""
    from todoku.campaign import campaigns, tracking

    with opened(ctx, "the progress of a campaign", as_json=as_json) as here:
        while True:
            with here.read() as connection:
                found = campaigns.find(connection, name)
                counts = campaigns.numbers(connection, found.id)
                rate = campaigns.rate(connection, found.id, here.clock())
                subjects = campaigns.by_subject(connection, found.id) if found.subject_b else {}
                reactions = tracking.counts(connection, found)
                links = tracking.by_link(connection, found.id) if found.counts_clicks else []
            ends = here.clock() + counts.left / rate if rate and counts.left else None
            if as_json:
                shown = {"state": found.state, "words": found.words, "per_second": rate, "ends": ends}
                test = {"winner": found.winner, "words": found.winner_words} if found.test_share else None
                more = {"subjects": subjects, "test": test, "links": links}
                print_json({"ok": True, **shown, "numbers": counts.as_json() | reactions, **more})
            else:
                _show_progress(found, counts.as_json() | reactions, counts.left, rate, ends)
                for each in links:
                    say(f"  {each['clicked']:,} clicked on {each['target']}")
                for variant, heard in sorted(subjects.items()):
                    said = ", ".join(f"{count:,} {what}" for what, count in heard.items() if count)
                    say(f"  {'waiting for the test' if variant == 'r' else f'subject {variant}'}: {said}")
                if found.winner_words:
                    say(f"  the test: {found.winner_words}")
            if not follow or found.state != campaigns.STARTED:
                return
            time.sleep(1)


def _show_progress(found: Any, counts: dict[str, int], left: int, rate: float, ends: float | None) -> None:
    from todoku.cli.parts.ledger import moment

    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count and what != "total")
    pace = f"  {rate:.1f} a second" if rate else ""
    end = f", done at {moment(ends)}" if ends else ""
    words = f" ({found.words})" if found.words else ""
    say(
        f"{found.name}  {found.state}{words}  {counts['total'] - left:,} of {counts['total']:,}: {said}{pace}{end}"
    )


def _tell_how_long(here: Opened, left: int) -> None:
    plan, share = here.settings.relay.plan, 100 - here.settings.gate.reserved_share
    days = left / max(1, plan.per_day * share // 100)
    if days > 1:
        note(
            f"the relay's plan lets {plan.per_day * share // 100:,} of them go in 24 hours: it takes {days:.0f} days"
        )
    if left > plan.per_month * share // 100:
        note(f"and {plan.per_month * share // 100:,} in 31 days (relay.plan.per_month)")


def _numbers(here: Opened, name: str) -> dict[str, int]:
    from todoku.campaign import campaigns

    with here.read() as connection:
        return campaigns.numbers(connection, campaigns.find(connection, name).id).as_json()


def _read(path: Path | None, *, as_json: bool) -> str:
    assert path is not None, "asked for before"  # noqa: S101
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        refuse(f"{path} cannot be read: {error.strerror}", USAGE, as_json=as_json)
    except UnicodeDecodeError:
        refuse(f"{path} is not UTF-8: save it as that", USAGE, as_json=as_json)


def _moment(text: str, zone: str, *, as_json: bool) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(zone)).timestamp()
    except ValueError:
        refuse(
            f'"{text}" is no time: write it as "2026-12-01 09:00" (time zone {zone})', USAGE, as_json=as_json
        )
