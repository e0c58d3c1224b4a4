"""Two subjects, tried on a part of the list: the others wait, and get the better one.

The rows of the others are there from the start, ready at no time (`NEVER`); choosing makes them due, all in one
transaction, so that nobody is left out and nobody gets both. What decides is what people did of their own accord:
clicks or opens where they are counted, else who objected. Bounces say nothing about a subject. Where there is nothing
to decide on, nothing is made up: somebody has to choose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, literal, select, update

from todoku.campaign.errors import NotSoError
from todoku.store import campaign_schema as schema

MEASURES = ("clicks", "opens", "objections")
REST = "r"  # the variant of those who wait
NEVER = 1e12  # seconds since 1970: when they are due
SIGNIFICANT = 0.05
_DID = {"clicks": "clicked", "opens": "opened", "objections": "unsubscribed or complained"}


@dataclass(frozen=True, slots=True)
class Trial:
    """`share`: percent of the people, half of whom get each subject first. `after`: seconds from the last of those
    messages until it is decided; None: until somebody chooses. `by`: one of MEASURES."""

    share: int
    after: float | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one subject: how many got it, and how many of them did what."""

    sent: int = 0
    opened: int = 0
    clicked: int = 0
    objected: int = 0

    def did(self, measure: str) -> int:
        return {"clicks": self.clicked, "opens": self.opened, "objections": self.objected}[measure]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`winner` None: it cannot be said, and `words` say why."""

    winner: str | None
    words: str


def checked(trial: Trial, *, opens: bool, clicks: bool) -> Trial:
    """With a measure: the best that is counted unless one was named. Raises NotSoError."""
    if not 2 <= trial.share <= 90:
        raise NotSoError("the share of a test is 2 to 90 percent of the people")
    if trial.by is not None and trial.by not in MEASURES:
        raise NotSoError(f"a test is decided by one of {', '.join(MEASURES)}")
    if (trial.by == "opens" and not opens) or (trial.by == "clicks" and not clicks):
        raise NotSoError(f"{trial.by} are not counted in this campaign, so they cannot decide the test")
    if trial.after is None:
        return trial
    return Trial(
        trial.share, trial.after, trial.by or ("clicks" if clicks else "opens" if opens else "objections")
    )


def variant(campaign: int, share: int | None) -> ColumnElement[str]:
    """For a query over subscribers: a, b, or REST. Exactly so many of each, and others than in the last campaign."""
    person = schema.subscriber.c.id
    shuffled = (person * literal(7919) + literal(campaign * 104_729)) % literal(1_000_003)
    place = func.row_number().over(order_by=(shuffled, person)) - 1
    total = func.count().over()
    of_test = 100 if share is None else share
    # Turn by turn, so that the two differ by one at most.
    half = case((place % 2 == 0, "a"), else_="b")
    return case((place * 100 < total * of_test, half), else_=REST)


def seen(connection: Connection, campaign: int) -> dict[str, Seen]:
    """What is known of each subject, a and b."""
    got, did = schema.recipient, schema.reaction
    sent = (got.c.campaign == campaign) & (got.c.state == "sent")
    objected = func.sum(case((got.c.later.in_(("unsubscribed", "complained")), 1), else_=0))
    reacted = (
        select(got.c.variant, func.count(did.c.recipient.distinct()))
        .join(did, did.c.recipient == got.c.id)
        .where(sent, did.c.by_machine.is_(False))
        .group_by(got.c.variant)
    )
    opened = {row[0]: row[1] for row in connection.execute(reacted.where(did.c.link == 0))}
    clicked = {row[0]: row[1] for row in connection.execute(reacted.where(did.c.link > 0))}
    counted = select(got.c.variant, func.count(), objected).where(sent).group_by(got.c.variant)
    return {
        of: Seen(count, opened.get(of, 0), clicked.get(of, 0), int(bad))
        for of, count, bad in connection.execute(counted)
    }


def chance(one: tuple[int, int], other: tuple[int, int]) -> float:
    """How often a difference like this or a larger one comes up when both are equally good: Fisher's exact test, two
    sided. Each: how many did it, of how many."""
    (did, count), (did_other, count_other) = one, other
    both, everybody = did + did_other, count + count_other

    def logarithm(mine: int) -> float:
        return _choose(count, mine) + _choose(count_other, both - mine) - _choose(everybody, both)

    observed = logarithm(did) + 1e-9
    possible = range(max(0, both - count_other), min(count, both) + 1)
    return min(1.0, sum(math.exp(each) for mine in possible if (each := logarithm(mine)) <= observed))


def _choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def judge(found: Mapping[str, Seen], measure: str) -> Outcome:
    """Which subject is better, as far as that can be said."""
    a, b = found.get("a", Seen()), found.get("b", Seen())
    pairs = (a.did(measure), a.sent), (b.did(measure), b.sent)
    told = ", ".join(f"{name}: {did:,} of {of:,}" for name, (did, of) in zip("ab", pairs, strict=True))
    told += f" {_DID[measure]}"
    if not a.sent or not b.sent or not (pairs[0][0] + pairs[1][0]):
        return Outcome(None, f"{told}: there is nothing to decide on")
    by_chance = chance(*pairs)
    rate_a, rate_b = (did / of for did, of in pairs)
    if rate_a == rate_b:
        return Outcome(None, f"{told}: they are equal")
    better = "a" if (rate_a > rate_b) != (measure == "objections") else "b"
    if by_chance < SIGNIFICANT:
        return Outcome(
            better, f"{told}; by chance alone in {by_chance:.1%} of such tests: {better} is better"
        )
    doubt = f"{told}; by chance alone in {by_chance:.0%} of such tests, so it is not known which is better"
    if measure == "objections":
        # So few object that the difference says something only when it is clear.
        return Outcome(None, doubt)
    return Outcome(better, f"{doubt}; {better} was ahead")


def decide(connection: Connection, now: float) -> list[tuple[str, str]]:
    """Decides the tests whose time has come; name and words of each. The first to do it has done it."""
    table = schema.campaign
    running = (table.c.state == "started") & (table.c.starts <= now) & table.c.test_share.is_not(None)
    open_ = table.c.winner.is_(None) & table.c.winner_words.is_(None) & table.c.decide_after.is_not(None)
    told = []
    for row in connection.execute(select(table).where(running, open_)).all():
        if not _is_over(connection, row, now):
            continue
        outcome = judge(seen(connection, row.id), row.decide_by)
        if outcome.winner is None:
            connection.execute(update(table).where(table.c.id == row.id).values(winner_words=outcome.words))
        else:
            give_to_the_others(connection, row.id, outcome.winner, outcome.words, now)
        told.append((str(row.name), outcome.words))
    return told


def _is_over(connection: Connection, row: Any, now: float) -> bool:
    """Whether all of the test were tried, and long enough ago. Who was deferred is not waited for."""
    got = schema.recipient
    of_test = (got.c.campaign == row.id) & (got.c.variant != REST)
    waiting = select(got.c.id).where(of_test, got.c.state.in_(("ready", "leased"))).limit(1)
    if connection.execute(waiting).first():
        return False
    last = connection.execute(select(func.max(got.c.settled)).where(of_test, got.c.state == "sent")).scalar()
    return bool(now >= (last or row.starts) + row.decide_after)


def give_to_the_others(connection: Connection, campaign: int, winner: str, words: str, now: float) -> int:
    """Those who waited get that subject; how many. Does nothing once it was done."""
    table, got = schema.campaign, schema.recipient
    mine = (table.c.id == campaign) & table.c.winner.is_(None)
    if not connection.execute(update(table).where(mine).values(winner=winner, winner_words=words)).rowcount:
        return 0
    waited = (got.c.campaign == campaign) & (got.c.variant == REST)
    connection.execute(update(got).where(waited).values(variant=winner))
    due = (got.c.campaign == campaign) & (got.c.state == "ready") & (got.c.due == NEVER)
    return connection.execute(update(got).where(due).values(due=now)).rowcount


def undecided(connection: Connection) -> list[tuple[str, str]]:
    """Campaigns of which somebody has to choose now: name and why."""
    table = schema.campaign
    found = connection.execute(
        select(table.c.name, table.c.winner_words)
        .where(table.c.state == "started", table.c.winner.is_(None), table.c.winner_words.is_not(None))
        .order_by(table.c.id)
    )
    return [(str(name), str(words)) for name, words in found]
