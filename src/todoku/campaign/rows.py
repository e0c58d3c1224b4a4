"""The rows of recipients as the sender uses them: leasing what is due, and writing what became of it.

A row is leased, tried, and its result written in the transaction that follows the relay's answer. What is leased when
the sender dies is ready again when the next one starts: no row is lost, and none is tried twice but those whose
answer was not written yet, at most one for each connection.

With PostgreSQL there are several senders ("workers"). A leased row then has an owner, and is due again when its lease
has ended; a worker renews its leases, and what it writes of a row that is another's by now is not taken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, bindparam, func, insert, select, text, update

from todoku.campaign import campaigns
from todoku.campaign.message import Person
from todoku.store import campaign_schema as schema

_got = schema.recipient
# As the partial index has it, letter by letter: with parameters SQLite would not find that it applies.
_UNSETTLED = text("recipient.state IN ('ready', 'leased', 'deferred')")
_WAITING = text("recipient.state != 'leased'")
_ANY = text("true")
# One statement for all of them: row by row, each would be a round trip. Words may name the address: of who was
# forgotten meanwhile they are not kept.
_WRITE_MANY = text(
    """
    UPDATE recipient AS got
    SET state = new.state, settled = new.settled, code = new.code, due = new.due,
        words = CASE WHEN got.subscriber IS NOT NULL THEN new.words END,
        attempts = got.attempts + new.more, owner = NULL
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS new(
        number bigint, state text, settled double precision, code integer, words text, due double precision,
        more integer
    )
    WHERE got.id = new.number AND got.owner = :owner
    RETURNING got.id
    """
)


# The same for SQLite (see `_in_one_row`).
_LEASE_ALONE = "UPDATE recipient SET state = 'leased' WHERE id IN (SELECT value FROM json_each(?))"
_WRITE_ALONE = """
    UPDATE recipient
    SET state = json_extract(new.value, '$[1]'), settled = json_extract(new.value, '$[2]'),
        code = json_extract(new.value, '$[3]'),
        words = CASE WHEN recipient.subscriber IS NOT NULL THEN json_extract(new.value, '$[4]') END,
        due = json_extract(new.value, '$[5]'), attempts = recipient.attempts + json_extract(new.value, '$[6]')
    FROM json_each(?) AS new
    WHERE recipient.id = json_extract(new.value, '$[0]')
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """Whose a lease is, and until when."""

    owner: str
    until: float


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


def _waiting(connection: Connection) -> Any:
    """A leased row is due again when its lease has ended. SQLite's one sender has none that it does not know of."""
    return _ANY if connection.dialect.name == "postgresql" else _WAITING


def current(connection: Connection, now: float) -> Sequence[Any]:
    """The campaigns that have something to send now: answers to forms first, then in the order of their start."""
    table = schema.campaign
    due = (
        select(_got.c.id)
        .where(_got.c.campaign == table.c.id, _UNSETTLED, _waiting(connection), _got.c.due <= now)
        .exists()
    )
    query = select(table).where(table.c.state == campaigns.STARTED, table.c.starts <= now, due)
    return connection.execute(query.order_by(table.c.kind.desc(), table.c.starts, table.c.id)).all()


def lease(
    connection: Connection, campaign: int, most: int, now: float, held: Lease | None = None
) -> list[Leased]:
    """Up to `most` that are due. Who has bounced, complained or said no meanwhile gets nothing, also when a first try
    was under way at that moment. `held`: by one of several."""
    person, of, table = schema.subscriber, schema.subscription, schema.campaign
    on_the_list = (of.c.list == table.c.list) & (of.c.subscriber == _got.c.subscriber)
    said_no = (table.c.kind == "bulk") & (func.coalesce(of.c.state, "") != "confirmed")
    query = (
        select(_got.c.id, _got.c.variant, _got.c.attempts, person.c.id.label("subscriber"), person.c.address)
        .add_columns(person.c.attributes, person.c.language, person.c.blocked, said_no.label("said_no"))
        .join(table, table.c.id == _got.c.campaign)
        .join(person, person.c.id == _got.c.subscriber, isouter=True)
        .join(of, on_the_list, isouter=True)
        .where(_got.c.campaign == campaign, _UNSETTLED, _waiting(connection), _got.c.due <= now)
        .order_by(_got.c.due, _got.c.id)
        .limit(most)
        .with_for_update(of=_got, skip_locked=True)  # says nothing to SQLite
    )
    found, not_wanted = [], []
    rows: Any = connection.execute(query) if held is not None else _in_one_row(connection, query)
    for number, variant, attempts, subscriber, address, attributes, language, blocked, no in rows:
        if subscriber is None or blocked:
            not_wanted.append({"number": number, "new": "suppressed", "why": blocked or "forgotten"})
            continue
        if no:
            not_wanted.append({"number": number, "new": "unsubscribed", "why": None})
            continue
        to = Person(subscriber, address, attributes, language, number, variant)
        found.append(Leased(number, to, attempts))
    here = _got.c.id == bindparam("number")
    if found and held is None:
        connection.exec_driver_sql(_LEASE_ALONE, (json.dumps([each.id for each in found]),))
    elif found and held is not None:
        these = _got.c.id.in_([each.id for each in found])
        connection.execute(update(_got).where(these).values(state="leased", owner=held.owner, due=held.until))
    if not_wanted:
        statement = update(_got).where(here)
        statement = statement.values(state=bindparam("new"), settled=now, words=bindparam("why"))
        connection.execute(statement, not_wanted)
    return found


def renew(connection: Connection, held: Lease) -> int:
    """All that its owner still has; how many."""
    return connection.execute(update(_got).where(_is_of(held.owner)).values(due=held.until)).rowcount


def _is_of(owner: str) -> ColumnElement[bool]:
    return (_got.c.state == "leased") & (_got.c.owner == owner)


def write(connection: Connection, results: Sequence[Result], owner: str | None = None) -> None:
    """What became of them, all in one transaction. Of a row that is no longer `owner`'s, only the attempt."""
    if owner is None:
        _write_alone(connection, results)
    else:
        rows = [
            {
                "number": each.id,
                "state": each.state,
                "settled": each.time if each.state in campaigns.SETTLED else None,
                "code": each.code,
                "words": each.words.replace("\0", "?") or None,  # PostgreSQL knows no NUL
                "due": each.due,
                "more": int(each.counts),
            }
            for each in results
        ]
        connection.execute(_WRITE_MANY, {"rows": json.dumps(rows), "owner": owner})
    # Of what was sent at once, the row itself says everything.
    tried = [
        {"recipient": each.id, "time": each.time, "code": each.code, "words": each.words}
        for each in results
        if each.counts and each.state != "sent"
    ]
    if tried:
        these = _got.c.id.in_([each["recipient"] for each in tried])
        known = set(
            connection.execute(select(_got.c.id).where(these, _got.c.subscriber.is_not(None))).scalars()
        )
        if tried := [each for each in tried if each["recipient"] in known]:
            connection.execute(insert(schema.attempt), tried)
    _block(connection, [each for each in results if each.state == "suppressed"])


def _in_one_row(connection: Connection, query: Any) -> Any:
    """For SQLite, what a query finds in a single row of JSON. Its driver gives Python's lock away for each row, and
    gets it back only when what sends has a pause: some milliseconds for each row of a busy sender."""
    found = query.subquery()
    columns = (func.json(each) if isinstance(each.type, JSON) else each for each in found.c)
    return json.loads(
        connection.execute(select(func.json_group_array(func.json_array(*columns)))).scalar_one()
    )


def _write_alone(connection: Connection, results: Sequence[Result]) -> None:
    rows = [
        (
            each.id,
            each.state,
            each.time if each.state in campaigns.SETTLED else None,
            each.code,
            each.words.replace("\0", "?") or None,
            each.due,
            int(each.counts),
        )
        for each in results
    ]
    connection.exec_driver_sql(_WRITE_ALONE, (json.dumps(rows),))


def _block(connection: Connection, suppressed: Sequence[Result]) -> None:
    if not suppressed:
        return
    refused = [{"number": each.id, "at": each.time, "said": each.words} for each in suppressed]
    whose = select(_got.c.subscriber).where(_got.c.id == bindparam("number")).scalar_subquery()
    connection.execute(
        update(schema.subscriber)
        .where(schema.subscriber.c.id == whose, schema.subscriber.c.blocked.is_(None))
        .values(blocked="suppressed", blocked_since=bindparam("at"), blocked_words=bindparam("said")),
        refused,
    )


def finish(connection: Connection, now: float) -> list[str]:
    """Campaigns of which nothing is left are finished; their names."""
    table = schema.campaign
    left = select(_got.c.id).where(_got.c.campaign == table.c.id, _UNSETTLED).exists()
    done = connection.execute(
        update(table)
        .where(table.c.state == campaigns.STARTED, table.c.kind == "bulk", table.c.starts <= now, ~left)
        .values(state=campaigns.FINISHED, ended=now)
        .returning(table.c.name)
    )
    return [str(name) for (name,) in done]


def cancel_left(connection: Connection, now: float) -> int:
    """What was on its way when its campaign was cancelled, and was put off then or left behind; how many."""
    table = schema.campaign
    # A lease that has not ended is its worker's: the relay may have taken that message.
    ended = (_got.c.state != "leased") | (_got.c.due <= now)
    left = (_UNSETTLED, ended if connection.dialect.name == "postgresql" else _WAITING)
    some = select(_got.c.id).where(_got.c.campaign == table.c.id, *left).exists()
    of = (
        connection.execute(select(table.c.id).where(table.c.state == campaigns.CANCELLED, some))
        .scalars()
        .all()
    )
    if not of:
        return 0
    # Two workers that do this at the same moment leave each other's rows alone.
    these = select(_got.c.id).where(_got.c.campaign.in_(of), *left).with_for_update(skip_locked=True)
    done = update(_got).where(_got.c.id.in_(these)).values(state="cancelled", settled=now, owner=None)
    return connection.execute(done).rowcount
