"""The rows of recipients as the sender uses them: leasing what is due, and writing what became of it.

A row is leased, tried, and its result written in the transaction that follows the relay's answer. What is leased when
the sender dies is ready again when the next one starts: no row is lost, and none is tried twice but those whose
answer was not written yet, at most one for each connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, text, update

from todoku.campaign import campaigns
from todoku.campaign.message import Person
from todoku.store import campaign_schema as schema

_got = schema.recipient
# As the partial index has it, letter by letter: with parameters SQLite would not find that it applies.
_UNSETTLED = text("recipient.state IN ('ready', 'leased', 'deferred')")
_WAITING = text("recipient.state != 'leased'")


@dataclass(frozen=True, slots=True)
class Leased:
    """A row, and whom it is for."""

    id: int
    person: Person
    attempts: int

    @property
    def domain(self) -> str:
        return self.person.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Result:
    """What a row becomes. `due`: when it is tried again. `counts`: whether it was an attempt."""

    id: int
    state: str
    time: float
    code: int | None = None
    words: str = ""
    due: float = 0.0
    counts: bool = True


def release_all(connection: Connection) -> int:
    """At the start: what was leased by a sender that is no more."""
    found = connection.execute(
        update(_got)
        .where(_UNSETTLED, _got.c.state == "leased")
        .values(state="ready")
        .execution_options(synchronize_session=False)
    )
    return found.rowcount


def current(connection: Connection, now: float) -> Sequence[Any]:
    """The campaigns that have something to send now: answers to forms first, then in the order of their start."""
    table = schema.campaign
    due = (
        select(_got.c.id)
        .where(_got.c.campaign == table.c.id, _UNSETTLED, _WAITING, _got.c.due <= now)
        .exists()
    )
    query = select(table).where(table.c.state == campaigns.STARTED, table.c.starts <= now, due)
    return connection.execute(query.order_by(table.c.kind.desc(), table.c.starts, table.c.id)).all()


def lease(connection: Connection, campaign: int, most: int, now: float) -> list[Leased]:
    """Up to `most` that are due. Who has bounced or complained meanwhile gets nothing."""
    person = schema.subscriber
    query = (
        select(_got.c.id, _got.c.variant, _got.c.attempts, person.c.id.label("subscriber"), person.c.address)
        .add_columns(person.c.attributes, person.c.language, person.c.blocked)
        .join(person, person.c.id == _got.c.subscriber, isouter=True)
        .where(_got.c.campaign == campaign, _UNSETTLED, _WAITING, _got.c.due <= now)
        .order_by(_got.c.due, _got.c.id)
        .limit(most)
    )
    found, not_wanted = [], []
    for row in connection.execute(query):
        if row.subscriber is None or row.blocked:
            not_wanted.append({"number": row.id, "words": row.blocked or "forgotten"})
            continue
        to = Person(row.subscriber, row.address, row.attributes, row.language, row.id, row.variant)
        found.append(Leased(row.id, to, row.attempts))
    here = _got.c.id == bindparam("number")
    if found:
        connection.execute(
            update(_got).where(here).values(state="leased"), [{"number": each.id} for each in found]
        )
    if not_wanted:
        statement = update(_got).where(here).values(state="suppressed", settled=now, words=bindparam("words"))
        connection.execute(statement, not_wanted)
    return found


def write(connection: Connection, results: Sequence[Result]) -> None:
    """What became of them, all in one transaction."""
    here = _got.c.id == bindparam("number")
    rows = [
        {
            "number": each.id,
            "to_state": each.state,
            "at": each.time if each.state in campaigns.SETTLED else None,
            "reply": each.code,
            "said": each.words or None,
            "next": each.due,
            "more": int(each.counts),
        }
        for each in results
    ]
    connection.execute(
        update(_got)
        .where(here)
        .values(
            state=bindparam("to_state"),
            settled=bindparam("at"),
            code=bindparam("reply"),
            words=bindparam("said"),
            due=bindparam("next"),
            attempts=_got.c.attempts + bindparam("more"),
        ),
        rows,
    )
    # Of what was sent at once, the row itself says everything.
    tried = [
        {"recipient": each.id, "time": each.time, "code": each.code, "words": each.words}
        for each in results
        if each.counts and each.state != "sent"
    ]
    if tried:
        connection.execute(insert(schema.attempt), tried)
    refused = [
        {"number": each.id, "at": each.time, "said": each.words}
        for each in results
        if each.state == "suppressed"
    ]
    if refused:
        whose = select(_got.c.subscriber).where(here).scalar_subquery()
        blocked = schema.subscriber.c.blocked.is_(None)
        connection.execute(
            update(schema.subscriber)
            .where(schema.subscriber.c.id == whose, blocked)
            .values(blocked="suppressed", blocked_since=bindparam("at"), blocked_words=bindparam("said")),
            refused,
        )


def finish(connection: Connection, now: float) -> list[str]:
    """Campaigns of which nothing is left are finished; their names."""
    table = schema.campaign
    left = select(_got.c.id).where(_got.c.campaign == table.c.id, _UNSETTLED).exists()
    done = connection.execute(
        select(table.c.id, table.c.name).where(
            table.c.state == campaigns.STARTED, table.c.kind == "bulk", table.c.starts <= now, ~left
        )
    ).all()
    for each in done:
        connection.execute(
            update(table).where(table.c.id == each.id).values(state=campaigns.FINISHED, ended=now)
        )
    return [each.name for each in done]
