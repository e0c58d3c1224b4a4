"""Whether a campaign may go on: it stops itself when too many complain or bounce, or the relay refuses us.

Gmail and Yahoo want complaints below 0.3 % ("Email sender guidelines"), and who keeps writing to addresses that are
not there loses the name that the next message needs. The postmaster is told; `todoku campaign start` goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, select, update

from todoku.campaign import campaigns
from todoku.campaign.campaigns import Numbers
from todoku.campaign.message import message_id
from todoku.campaign.opened import Opened
from todoku.delivery.entries import Told
from todoku.store import campaign_schema as schema

log = logging.getLogger("todoku.campaign")

COMPLAINTS, BOUNCES = 0.003, 0.05  # of what was sent
AT_LEAST_COMPLAINTS, AT_LEAST_BOUNCES = 2, 10  # one of a few is no rate
_BLOCKED = {"HARDBOUNCE": "bounced", "COMPLAINT": "complained"}
_LATER = {
    "HARDBOUNCE": "bounced",
    "SOFTBOUNCE": "bounced",
    "COMPLAINT": "complained",
    "UNSUBSCRIBE": "unsubscribed",
}


def verdict(numbers: Numbers) -> str:
    """Why it should stop; empty: it may go on."""
    tried = numbers.sent + numbers.failed
    if numbers.complained >= AT_LEAST_COMPLAINTS and numbers.complained >= COMPLAINTS * numbers.sent:
        share = 100 * numbers.complained / max(1, numbers.sent)
        return f"{numbers.complained} of {numbers.sent:,} complained ({share:.1f} %; 0.3 % is too much)"
    bad = numbers.failed + numbers.bounced
    if bad >= AT_LEAST_BOUNCES and bad >= BOUNCES * tried:
        return f"{bad} of {tried:,} bounced or were refused ({100 * bad / tried:.0f} %; 5 % is too much)"
    return ""


def judge(
    opened: Opened,
    campaign: int,
    name: str,
    tally: Mapping[str, int],
    recount: Callable[[], Mapping[str, int]] | None = None,
) -> str:
    """Stops it where it has to. The reason, or nothing. `tally`: how many were sent, and how many failed.

    `recount` counts again what `tally` may be behind with; it is asked before the campaign is stopped.
    """
    with opened.read() as connection:
        row = connection.execute(select(schema.campaign).where(schema.campaign.c.id == campaign)).one()
        if row.kind != "bulk" or row.state != campaigns.STARTED:
            return ""
        heard = campaigns.heard(connection, campaign)
    why = verdict(_numbers(tally, heard))
    if why and recount is not None:
        why = verdict(_numbers(recount(), heard))
    # Somebody has looked at these numbers and started it again.
    if not why or (row.words or "").startswith(campaigns.DESPITE):
        return ""
    stop(opened, campaign, name, why)
    return why


def _numbers(tally: Mapping[str, int], heard: Mapping[str, int]) -> Numbers:
    return Numbers(
        sent=tally.get("sent", 0),
        failed=tally.get("failed", 0),
        bounced=heard.get("bounced", 0),
        complained=heard.get("complained", 0),
    )


def stop(opened: Opened, campaign: int, name: str, why: str) -> None:
    with opened.write() as connection:
        campaigns.stop(connection, campaign, why)
    log.error("the campaign %s has stopped itself: %s", name, why)


def hear(opened: Opened, told: Sequence[Told]) -> None:
    """What the relay's suppression list says, about people and about the messages that were the cause."""
    with opened.write() as connection:
        for each in told:
            _hear(opened, connection, each)


def _hear(opened: Opened, connection: Connection, told: Told) -> None:
    person = schema.subscriber
    found = connection.execute(select(person).where(person.c.address == told.address)).first()
    if found is None:
        return
    blocked = _BLOCKED.get(told.reason, "suppressed")
    if found.blocked in (None, "suppressed") and found.blocked != blocked:
        new = {"blocked": blocked, "blocked_since": told.time, "blocked_words": told.detail or told.reason}
        connection.execute(update(person).where(person.c.id == found.id).values(**new))
    if (later := _LATER.get(told.reason)) is None:
        return
    row = _cause(opened, connection, found.id, told)
    if row is not None:
        got = schema.recipient
        connection.execute(update(got).where(got.c.id == row, got.c.later.is_(None)).values(later=later))


def _cause(opened: Opened, connection: Connection, subscriber: int, told: Told) -> int | None:
    """The row of the message that was the cause: by its Message-ID, or the last one before."""
    got = schema.recipient
    query = (
        select(got.c.id, got.c.campaign, got.c.settled)
        .where(got.c.subscriber == subscriber, got.c.state == "sent")
        .order_by(got.c.id.desc())
        .limit(50)
    )
    rows = connection.execute(query).all()
    if told.message_id:
        for row in rows:
            mine = message_id(opened.keys, row.campaign, row.id, subscriber)
            if told.message_id.partition("@")[0] == mine:
                return int(row.id)
        return None
    return next((int(row.id) for row in rows if row.settled <= told.time + 60), None)
