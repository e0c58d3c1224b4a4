"""Who asked to be on a list, or for whom somebody else did, and who never confirmed it: removed after a time, as if
nobody had asked. Nothing is kept for good of somebody who did not say yes.
"""

from __future__ import annotations

from sqlalchemy import and_, delete, exists, select

from todoku.campaign import persons
from todoku.campaign.lists import Membership
from todoku.campaign.opened import Opened
from todoku.store import campaign_schema as schema

DAY = 86_400.0
_AT_ONCE = 200  # requests in one transaction


def forget(opened: Opened) -> int:
    """Remove the requests that are older than `campaign.unconfirmed_days`; how many. Raises StoreError.

    Who is on no list then goes with them. Who is blocked (bounced, complained) stays, so that it stays known.
    """
    before, forgotten, found = opened.clock() - opened.wanted.unconfirmed_days * DAY, 0, _AT_ONCE
    while found == _AT_ONCE:
        found, some = _forget_some(opened, before)
        forgotten += some
    if forgotten:
        persons.clear_the_journal(opened)
    return forgotten


def _forget_some(opened: Opened, before: float) -> tuple[int, int]:
    """How many there were, of `_AT_ONCE` at most, and how many of them were removed."""
    of, person, got, said = schema.subscription, schema.subscriber, schema.recipient, schema.consent
    old = (
        select(of.c.list, of.c.subscriber)
        .join(person, person.c.id == of.c.subscriber)
        .where(of.c.state == Membership.UNCONFIRMED, of.c.since < before, person.c.blocked.is_(None))
        .limit(_AT_ONCE)
    )
    with opened.write() as connection:
        persons.overwrite(opened, connection)
        found, removed = connection.execute(old).all(), 0
        numbers = {number for _, number in found}
        # Who confirms or asks anew at this moment, on another machine, comes before this or after it.
        connection.execute(select(person.c.id).where(person.c.id.in_(numbers)).with_for_update())
        for list_, number in found:
            here = and_(of.c.list == list_, of.c.subscriber == number)
            still = and_(of.c.state == Membership.UNCONFIRMED, of.c.since < before)
            if not connection.execute(delete(of).where(here, still)).rowcount:
                continue
            removed += 1
            asks = select(schema.campaign.c.id).where(
                schema.campaign.c.list == list_, schema.campaign.c.kind == "confirmation"
            )
            asked = and_(got.c.subscriber == number, got.c.campaign.in_(asks))
            persons.without_a_name(connection, asked, opened.clock())
            connection.execute(delete(said).where(said.c.list == list_, said.c.subscriber == number))
        on_none = and_(person.c.id.in_(numbers), ~exists().where(of.c.subscriber == person.c.id))
        left = list(connection.execute(select(person.c.id).where(on_none)).scalars())
        persons.without_a_name(connection, got.c.subscriber.in_(left), opened.clock())
        connection.execute(delete(person).where(person.c.id.in_(left)))
    return len(found), removed
