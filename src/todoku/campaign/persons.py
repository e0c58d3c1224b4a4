"""One person: everything that is kept of them, and forgetting them.

Who is forgotten leaves how many got past campaigns as it is, and a keyed digest of the address, by which an import of
an old file does not bring it back. What they opened and clicked on is deleted, and missing in those numbers.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from todoku.campaign import lists
from todoku.campaign.errors import NotKnownError
from todoku.campaign.opened import Opened
from todoku.store import campaign_schema as schema


def export(opened: Opened, address: str) -> dict[str, Any]:
    """Everything that is kept of a person, in words that they can read. Raises NotKnownError."""
    with opened.read() as connection:
        person = lists.subscriber(connection, lists.check_address(address))
        if person is None:
            raise NotKnownError(f"nothing is kept of {address}")
        of, name = schema.subscription, schema.subscription_list.c.name.label("list")
        lists_ = connection.execute(
            select(name, of.c.state, of.c.since)
            .join(schema.subscription_list, schema.subscription_list.c.id == of.c.list)
            .where(of.c.subscriber == person.id)
        )
        consents = connection.execute(
            select(
                name,
                schema.consent.c.time,
                schema.consent.c.what,
                schema.consent.c.source,
                schema.consent.c.text,
            )
            .join(schema.subscription_list, schema.subscription_list.c.id == schema.consent.c.list)
            .where(schema.consent.c.subscriber == person.id)
            .order_by(schema.consent.c.id)
        )
        got = schema.recipient
        messages = connection.execute(
            select(
                schema.campaign.c.name.label("campaign"), got.c.state, got.c.settled, got.c.words, got.c.later
            )
            .join(schema.campaign, schema.campaign.c.id == got.c.campaign)
            .where(got.c.subscriber == person.id)
            .order_by(got.c.id)
        )
        did, link = schema.reaction, schema.link
        reactions = connection.execute(
            select(
                schema.campaign.c.name.label("campaign"),
                did.c.link,
                link.c.target,
                did.c.by_machine,
                did.c.time,
                did.c.times,
            )
            .join(got, got.c.id == did.c.recipient)
            .join(schema.campaign, schema.campaign.c.id == got.c.campaign)
            .join(link, (link.c.campaign == got.c.campaign) & (link.c.number == did.c.link), isouter=True)
            .where(got.c.subscriber == person.id)
            .order_by(did.c.id)
        )
        tried = schema.attempt
        attempts = connection.execute(
            select(schema.campaign.c.name.label("campaign"), tried.c.time, tried.c.code, tried.c.words)
            .join(got, got.c.id == tried.c.recipient)
            .join(schema.campaign, schema.campaign.c.id == got.c.campaign)
            .where(got.c.subscriber == person.id)
            .order_by(tried.c.id)
        )
        bounced = schema.bounce
        bounces = connection.execute(
            select(bounced.c.time, bounced.c.what, bounced.c.status, bounced.c.words)
            .where(bounced.c.subscriber == person.id)
            .order_by(bounced.c.id)
        )
        return {
            "address": person.address,
            "attributes": person.attributes,
            "language": person.language,
            "blocked": person.blocked,
            "blocked_since": person.blocked_since,
            "blocked_words": person.blocked_words,
            "created": person.created,
            "lists": [dict(each._mapping) for each in lists_],
            "consent": [dict(each._mapping) for each in consents],
            "messages": [dict(each._mapping) for each in messages],
            "attempts": [dict(each._mapping) for each in attempts],
            "reactions": [dict(each._mapping) for each in reactions],
            "bounces": [dict(each._mapping) for each in bounces],
        }


def forget(opened: Opened, address: str) -> None:
    """Delete the person. Also who is not known is remembered as somebody not to be imported."""
    address = lists.check_address(address)
    digest = opened.keys.digest("forgotten", address)
    now = opened.clock()
    with opened.write() as connection:
        overwrite(opened, connection)
        table = schema.forgotten
        if not connection.execute(select(table.c.digest).where(table.c.digest == digest)).first():
            connection.execute(insert(table), {"digest": digest, "since": now})
        person = lists.subscriber(connection, address)
        if person is None:
            return
        mine = schema.recipient.c.subscriber == person.id
        without_a_name(connection, mine, now)
        connection.execute(delete(schema.subscriber).where(schema.subscriber.c.id == person.id))
    clear_the_journal(opened)


def overwrite(opened: Opened, connection: Connection) -> None:
    """What is deleted on this connection is overwritten, where that is in our hands."""
    if not opened.is_shared:
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def without_a_name(connection: Connection, which: ColumnElement[bool], now: float) -> None:
    """These rows of `recipient` count as before, and say of nobody that it was them; none of them is sent any more."""
    got = schema.recipient
    waiting = got.c.state.in_(("ready", "leased", "deferred"))
    connection.execute(update(got).where(which, waiting).values(state="unsubscribed", settled=now))
    # The other side's words may name the address.
    of_mine = select(got.c.id).where(which)
    for table in (schema.attempt, schema.reaction, schema.bounce):
        connection.execute(delete(table).where(table.c.recipient.in_(of_mine)))
    connection.execute(update(got).where(which).values(words=None, subscriber=None))


def clear_the_journal(opened: Opened) -> None:
    """SQLite's journal has had the pages as they were. Who reads at this moment keeps it from being cleared: then the
    next writer's checkpoint does it."""
    if opened.is_shared:
        return
    with closing(opened.engine.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def is_forgotten(opened: Opened, connection: Connection, address: str) -> bool:
    """Whether they have asked for it. `address` in lower case."""
    table, digest = schema.forgotten, opened.keys.digest("forgotten", address)
    return connection.execute(select(table.c.digest).where(table.c.digest == digest)).first() is not None


def remember_again(opened: Opened, connection: Connection, subscriber: int) -> None:
    """Somebody who was forgotten subscribes anew, themselves."""
    person, table = schema.subscriber, schema.forgotten
    address = connection.execute(select(person.c.address).where(person.c.id == subscriber)).scalar()
    if address is not None:
        digest = opened.keys.digest("forgotten", address)
        connection.execute(delete(table).where(table.c.digest == digest))
