"""`todoku campaign check` and `test`: a campaign looked at before anybody gets it, and whether the relay takes it.
`start` looks in the same way."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts import campaign_sender
from todoku.cli.parts.bulk import CampaignName, opened
from todoku.cli.parts.context import FAILED, print_json
from todoku.cli.parts.people import Json, refuse, say

if TYPE_CHECKING:
    from todoku.campaign.opened import Opened
    from todoku.check.finding import Finding

_LOOKED_AT = 20  # recipients whose messages are looked at before anything is sent
_LARGEST = 2_000_000  # bytes: what the relay counts as one email
NO_ATTACHMENTS = (
    "bulk mail has no attachments: providers distrust them, and the relay counts every started 2 MB as another "
    "message. Put the file on a page, and write its address"
)
# Pictures that would have to be attached, and those within the HTML, which Gmail and Outlook do not show.
_PICTURE = re.compile(
    r"""(?:src|background)\s*=\s*["']?\s*(cid|data):|url\(\s*["']?(cid|data):""", re.IGNORECASE
)


def check(ctx: typer.Context, name: CampaignName, as_json: Json = False) -> None:
    """Look at the messages as large providers do, before anybody gets one."""
    with opened(ctx, "looking at a campaign", as_json=as_json) as here:
        findings, faults = look(here, name)
    if as_json:
        print_json({"ok": not faults, "faults": faults, "findings": [each.as_json() for each in findings]})
    else:
        for each in findings:
            say(f"{each.verdict.value}: {each.rule}: {each.seen}. {each.advice}")
        for fault in faults:
            say(f"fail: {fault}")
        if not faults:
            say("Nothing speaks against sending it.")
    raise typer.Exit(FAILED if faults else 0)


def test(
    ctx: typer.Context,
    name: CampaignName,
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Your own address.")],
    like: Annotated[
        str | None,
        typer.Option("--for", metavar="ADDRESS", help="As this subscriber gets it; else the first one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send the message to yourself, as one person gets it. Its links lead nowhere, and nothing is counted."""
    import smtplib

    from todoku.campaign import letters, lists
    from todoku.settings import ports

    with opened(ctx, "a test", as_json=as_json) as here:
        to = lists.check_address(to)
        content = letters.preview(here, name, like)
        try:
            with smtplib.SMTP(ports.LOOPBACK, ports.FORWARD, local_hostname="localhost", timeout=60) as smtp:
                smtp.sendmail(here.wanted.envelope_sender, [to], content)
        except (smtplib.SMTPException, OSError) as error:
            refuse(f"the test could not be sent: {error}", FAILED, as_json=as_json)
    if as_json:
        print_json({"ok": True, "to": to})
    else:
        say(f"Sent to {to}. `todoku trace {to}` says what became of it.")


def look(here: Opened, name: str) -> tuple[list[Finding], list[str]]:
    """What a provider would say of the first messages: what is not right, and what forbids sending. The last word is
    the relay's."""
    from todoku.campaign import campaigns, letters
    from todoku.campaign.template import TemplateFault
    from todoku.check import message as judge
    from todoku.check.finding import Verdict

    with here.read() as connection:
        campaign = campaigns.find(connection, name)
    letter = letters.letter_of(here, campaign)
    found: dict[str, Finding] = {}
    faults: dict[str, None] = {}
    if picture := _PICTURE.search(campaign.html or ""):
        kind = picture[1] or picture[2]
        faults[
            f'a picture in the HTML begins with "{kind}:", so people would not see it; {NO_ATTACHMENTS}'
        ] = None
    some = letters.people(here, name, _LOOKED_AT)
    if not some:
        return [], [f"the campaign {name} has no recipients"]
    for person in some:
        try:
            raw = letter.write(person, here.clock())
        except TemplateFault as error:
            faults[f"{person.address}: {error}"] = None
            continue
        if len(raw) > min(_LARGEST, here.settings.relay.plan.message_size):
            faults[f"it has {len(raw):,} bytes: at most {_LARGEST:,} can be sent. Link what is large"] = None
        if not letter.shows_link(person):
            faults["neither {{ unsubscribe }} nor {{ preferences }} is in the text, or in the HTML"] = None
        for finding in judge.look(raw, datetime.fromtimestamp(here.clock(), UTC), is_bulk=True):
            if finding.verdict is Verdict.FAIL:
                faults[f"{finding.rule}: {finding.seen}. {finding.advice}"] = None
            elif finding.verdict is not Verdict.PASS:
                found.setdefault(finding.rule, finding)
    return list(found.values()), [*faults, *campaign_sender.faults(here)]
