"""Campaigns: made from a list, with a row for each recipient; started, paused, gone on with, cancelled; their numbers.

A campaign goes to those who have confirmed, and who have neither unsubscribed, bounced nor complained. Whoever has a
row in it gets no second one, however often it is filled up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    case,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from todoku.campaign import lists, segments, tracking, trial
from todoku.campaign.errors import NotKnownError, NotSoError
from todoku.campaign.opened import Opened, inserted
from todoku.campaign.template import Source, Templates
from todoku.campaign.tracking import Counting
from todoku.campaign.trial import Trial
from todoku.store import campaign_schema as schema

# draft: nothing is sent; started: from `starts` on; stopped: by itself, for the reason in `words`.
DRAFT, STARTED, PAUSED, STOPPED, CANCELLED, FINISHED = (
    "draft",
    "started",
    "paused",
    "stopped",
    "cancelled",
    "finished",
)
DESPITE = "started again despite: "  # begins the words of a campaign whose numbers somebody has looked at
RESTORED = "restored from a backup of"  # begins the words of one that was not over when the backup was made
UNSETTLED = ("ready", "leased", "deferred")
# sent: the relay took it. suppressed: it took it, and said that it sends it nowhere; or we knew.
SETTLED = ("sent", "failed", "suppressed", "unsubscribed", "cancelled")


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many recipients are in which state; what was heard later of those that were sent."""

    total: int = 0
    ready: int = 0
    leased: int = 0
    deferred: int = 0
    sent: int = 0
    failed: int = 0
    suppressed: int = 0
    unsubscribed: int = 0
    cancelled: int = 0
    relayed: int = 0
    bounced: int = 0
    complained: int = 0
    unsubscribed_later: int = 0

    @property
    def left(self) -> int:
        return self.ready + self.leased + self.deferred

    def as_json(self) -> dict[str, int]:
        return asdict(self)


def create(
    opened: Opened,
    name: str,
    list_name: str,
    source: Source,
    *,
    segment: str = "",
    reason: str | None = None,
    not_of: str | None = None,
    test: Trial | None = None,
    counting: Counting | None = None,
) -> int:
    """A draft with all its recipients. `not_of`: a campaign; who has had that one, or may still get it, or was refused
    for good, gets nothing of this one. `test`: the two subjects go to a part of the people first. `counting`: what is
    counted of what people do; nothing without.

    Raises NotSoError: also when somebody's agreement is not known and there is no `reason` to write to them.
    """
    lists.check_name(name)
    Templates(source)
    counted = tracking.allowed(opened.wanted, counting or Counting(), source)
    if test is not None:
        if source.subject_b is None:
            raise NotSoError("a test needs two subjects")
        test = trial.checked(test, opens=counted.opens, clicks=counted.clicks)
    now = opened.clock()
    with opened.write() as connection:
        if connection.execute(select(schema.campaign.c.id).where(schema.campaign.c.name == name)).first():
            raise NotSoError(f"there is a campaign {name} already")
        found = lists.find(connection, list_name)
        without = _without_evidence(connection, found.id, segment)
        if without and not (reason or "").strip():
            raise NotSoError(
                f"of {without:,} people on {list_name} it is not known when and how they agreed: say with --reason why "
                "they are written to, which is kept; or leave them out with a segment"
            )
        row = {
            "name": name,
            "list": found.id,
            "kind": "bulk",
            "segment": segment,
            "subject": source.subject,
            "subject_b": source.subject_b,
            "text": source.text,
            "html": source.html,
            "state": DRAFT,
            "reason": reason,
            "created": now,
            "counts_opens": counted.opens,
            "counts_clicks": counted.clicks,
        }
        if test is not None:
            row |= {"test_share": test.share, "decide_after": test.after, "decide_by": test.by}
        number = inserted(connection, schema.campaign, row)
        if counted.clicks:
            tracking.keep_links(connection, number, source.html or "", opened.wanted.url)
        excluded = None if not_of is None else find(connection, not_of).id
        share = 100 if test is None else test.share
        variant = None if source.subject_b is None else trial.variant(number, share)
        _fill(connection, number, found.id, segment, excluded, now, variant)
        return number


def _fill(
    connection: Connection,
    campaign: int,
    list_id: int,
    segment: str,
    excluded: int | None,
    now: float,
    variant: ColumnElement[str] | None,
) -> None:
    """One statement, whatever the size: a million rows take seconds."""
    got, person = schema.recipient, schema.subscriber
    query: Select[Any] = _who(list_id, segment)
    for each, which_rows in ((campaign, true()), (excluded, _have_had_it())):
        if each is not None:
            theirs = (got.c.campaign == each) & (got.c.subscriber == person.c.id) & which_rows
            query = query.where(~select(got.c.id).where(theirs).exists())
    which = literal("a") if variant is None else variant
    due = literal(now) if variant is None else case((variant == trial.REST, trial.NEVER), else_=now)
    columns = query.with_only_columns(
        literal(campaign), person.c.id, literal("ready"), which, due, literal(0)
    ).order_by(person.c.id)
    names = ["campaign", "subscriber", "state", "variant", "due", "attempts"]
    connection.execute(insert(got).from_select(names, columns))


def _have_had_it() -> ColumnElement[bool]:
    """Not who was left out when a campaign was cancelled, could not be filled in, or was only put off until the end."""
    got = schema.recipient
    return got.c.state.in_((*UNSETTLED, "sent")) | ((got.c.state == "failed") & (got.c.code >= 500))


def _who(list_id: int, segment: str) -> Select[Any]:
    person, of = schema.subscriber, schema.subscription
    return (
        select(person.c.id)
        .join(of, of.c.subscriber == person.c.id)
        .where(of.c.list == list_id, of.c.state == "confirmed", person.c.blocked.is_(None))
        .where(segments.condition(segment))
    )


def _without_evidence(connection: Connection, list_id: int, segment: str) -> int:
    query = _who(list_id, segment).where(schema.subscription.c.has_evidence.is_(False))
    return int(connection.execute(query.with_only_columns(func.count())).scalar_one())


def find(connection: Connection, name: str) -> Row[Any]:
    """Raises NotKnownError."""
    found = connection.execute(select(schema.campaign).where(schema.campaign.c.name == name)).first()
    if found is None:
        raise NotKnownError(f"there is no campaign {name}: `todoku campaign list` shows those there are")
    return found


def start(opened: Opened, name: str, at: float | None = None, *, after_restore: bool = False) -> None:
    """Have it sent from `at` on; at once without. `after_restore`: somebody knows what that means for one that came out
    of a backup. Raises CampaignError.
    """
    now = opened.clock()
    if at is not None and at < now - 60:
        raise NotSoError("that time is over")
    starts = now if at is None else at
    with opened.write() as connection:
        found = _checked(connection, name, (DRAFT, PAUSED, STOPPED), "be started")
        words = found.words
        if str(words).startswith(RESTORED):
            if not after_restore:
                raise NotSoError(_restored(name, str(words), numbers(connection, found.id).left))
            words = None
        elif found.state == STOPPED:
            words = DESPITE + str(words).removeprefix(DESPITE)
        connection.execute(
            update(schema.campaign)
            .where(schema.campaign.c.id == found.id)
            .values(state=STARTED, starts=starts, words=words)
        )


def _restored(name: str, words: str, left: int) -> str:
    return (
        f"the campaign {name} is {words}. It may have been sent since then: of the {left:,} who are left in it here, "
        "whoever got it between then and the loss would get it a second time, and who unsubscribed or was forgotten in "
        "that time is not known here. With [cloud], what the relay's log says of that time is taken over within "
        f"minutes: look again who is left. `todoku campaign start {name} --after-restore` goes on all the same, "
        f"`todoku campaign cancel {name}` ends it"
    )


def pause(opened: Opened, name: str) -> None:
    """What is on its way to the relay still goes. Raises CampaignError."""
    with opened.write() as connection:
        found = _checked(connection, name, (STARTED,), "be paused")
        connection.execute(
            update(schema.campaign).where(schema.campaign.c.id == found.id).values(state=PAUSED)
        )


def cancel(opened: Opened, name: str) -> None:
    """For good: who has not got it will not get it. Raises CampaignError."""
    now = opened.clock()
    with opened.write() as connection:
        found = _checked(connection, name, (DRAFT, STARTED, PAUSED, STOPPED), "be cancelled")
        connection.execute(
            update(schema.campaign).where(schema.campaign.c.id == found.id).values(state=CANCELLED, ended=now)
        )
        got = schema.recipient
        waiting = (got.c.campaign == found.id) & got.c.state.in_(("ready", "deferred"))
        connection.execute(update(got).where(waiting).values(state="cancelled", settled=now))


def choose(opened: Opened, name: str, variant: str) -> int:
    """Which subject those get who wait for the end of a test; how many. Raises CampaignError."""
    with opened.write() as connection:
        found = _checked(connection, name, (STARTED, PAUSED, STOPPED), "be decided")
        if found.test_share is None:
            raise NotSoError(f"the campaign {name} tests nothing: nobody waits")
        if found.winner is not None:
            raise NotSoError(f"the campaign {name} is decided: its subject is {found.winner}")
        words = f"chosen by hand; {found.winner_words}" if found.winner_words else "chosen by hand"
        return trial.give_to_the_others(connection, found.id, variant, words, opened.clock())


def stop(connection: Connection, campaign: int, words: str) -> None:
    """By itself: `start` goes on when somebody has looked."""
    here = (schema.campaign.c.id == campaign) & (schema.campaign.c.state == STARTED)
    connection.execute(update(schema.campaign).where(here).values(state=STOPPED, words=words))


def _checked(connection: Connection, name: str, before: tuple[str, ...], what: str) -> Row[Any]:
    found = find(connection, name)
    if found.kind != "bulk" or found.state not in before:
        raise NotSoError(f"the campaign {name} is {found.state}, and cannot {what}")
    return found


def numbers(connection: Connection, campaign: int) -> Numbers:
    got = schema.recipient
    by_state = connection.execute(
        select(got.c.state, func.count()).where(got.c.campaign == campaign).group_by(got.c.state)
    )
    counts: dict[str, int] = {row[0]: row[1] for row in by_state}
    later = heard(connection, campaign)
    arrived = select(func.count()).where(got.c.campaign == campaign, got.c.relayed.is_not(None))
    return Numbers(
        total=sum(counts.values()),
        **{state: counts.get(state, 0) for state in (*UNSETTLED, *SETTLED)},
        relayed=connection.execute(arrived).scalar_one(),
        bounced=later.get("bounced", 0),
        complained=later.get("complained", 0),
        unsubscribed_later=later.get("unsubscribed", 0),
    )


def heard(connection: Connection, campaign: int) -> dict[str, int]:
    """What was heard of messages after they were sent."""
    got = schema.recipient
    counted = connection.execute(
        select(got.c.later, func.count())
        .where(got.c.campaign == campaign, got.c.later.is_not(None))
        .group_by(got.c.later)
    )
    return {row[0]: row[1] for row in counted}


def by_subject(connection: Connection, campaign: int) -> dict[str, dict[str, int]]:
    """For each of two subjects, a and b: how many were sent, and what was heard of those later."""
    got = schema.recipient
    query = select(got.c.variant, got.c.later, func.count()).where(
        got.c.campaign == campaign, got.c.state == "sent"
    )
    found: dict[str, dict[str, int]] = {}
    for variant, later, count in connection.execute(query.group_by(got.c.variant, got.c.later)):
        counts = found.setdefault(variant, {"sent": 0, "bounced": 0, "complained": 0, "unsubscribed": 0})
        counts["sent"] += count
        if later in counts:
            counts[later] += count
    for variant, seen in trial.seen(connection, campaign).items():
        found[variant] |= {"opened": seen.opened, "clicked": seen.clicked}
    return found


def rate(connection: Connection, campaign: int, now: float, seconds: float = 60.0) -> float:
    """How many a second the relay took lately."""
    got = schema.recipient
    done = (got.c.state == "sent") & (got.c.settled > now - seconds) & (got.c.campaign == campaign)
    count, first = connection.execute(select(func.count(), func.min(got.c.settled)).where(done)).one()
    return count / max(1.0, now - first) if count else 0.0


def overview(opened: Opened) -> list[dict[str, Any]]:
    """All campaigns with their numbers, the newest first."""
    table = schema.campaign
    with opened.read() as connection:
        rows = connection.execute(
            select(table).where(table.c.kind == "bulk").order_by(table.c.id.desc())
        ).all()
        return [
            {
                "name": row.name,
                "state": row.state,
                "words": row.words,
                "starts": row.starts,
                "created": row.created,
                "ended": row.ended,
                "numbers": numbers(connection, row.id).as_json() | tracking.counts(connection, row),
            }
            for row in rows
        ]
