"""Lists, who is on them, and what they agreed to.

Who said no stays unsubscribed: nothing but their own confirmation, on a page that only they have the link to, brings
them back. Every step is kept as evidence: when, from where, and which text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from todoku.campaign.errors import NotKnownError, NotSoError
from todoku.campaign.opened import Opened, inserted
from todoku.settings import values
from todoku.settings.problems import WrongValueError
from todoku.store import campaign_schema as schema

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,63}")
LONGEST_ATTRIBUTE = 1000  # characters of a value
RESERVED = frozenset(
    {"address", "confirm", "language", "list_title", "not_counted", "preferences", "unsubscribe"}
)


class Membership(StrEnum):
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True, slots=True)
class Evidence:
    """How somebody agreed. `source`: the page and the client's address, the file and the line, or who typed it."""

    what: str  # asked, confirmed, unsubscribed, imported, added
    source: str
    text: str


def check_name(name: str) -> str:
    """A list's or campaign's name. It stands in headers and links, so it is a plain word. Raises NotSoError."""
    if not _NAME.fullmatch(name):
        raise NotSoError(f'"{name}" cannot be a name: write at most 32 of a-z, 0-9 and -, as "news"')
    return name


def check_address(address: str) -> str:
    """In lower case, its domain as A-labels. Raises NotSoError."""
    try:
        return values.mail_address(address.strip())
    except WrongValueError as error:
        raise NotSoError(f"the address {error}") from error


def check_attributes(given: Mapping[str, str]) -> dict[str, str]:
    """Raises NotSoError."""
    for name, value in given.items():
        if not _ATTRIBUTE.fullmatch(name) or name in RESERVED:
            raise NotSoError(f'"{name}" cannot be the name of an attribute: a-z, 0-9 and _, as "first_name"')
        if len(value) > LONGEST_ATTRIBUTE or any(ord(each) < 32 for each in value):
            raise NotSoError(f"{name} is longer than {LONGEST_ATTRIBUTE} characters or has line breaks in it")
    return dict(given)


def create(opened: Opened, name: str, title: str, consent_text: str, *, double: bool, is_open: bool) -> int:
    """Raises NotSoError when there is one."""
    check_name(name)
    if not title.strip() or any(ord(each) < 32 for each in title):
        raise NotSoError("the title is empty or has line breaks in it")
    table = schema.subscription_list
    with opened.write() as connection:
        if connection.execute(select(table.c.id).where(table.c.name == name)).first():
            raise NotSoError(f"there is a list {name} already")
        row = {"name": name, "title": title, "consent_text": consent_text, "double_opt_in": double}
        return inserted(connection, table, {**row, "is_open": is_open, "created": opened.clock()})


def find(connection: Connection, name: str) -> Row[Any]:
    """The list of that name. Raises NotKnownError."""
    found = connection.execute(
        select(schema.subscription_list).where(schema.subscription_list.c.name == name)
    ).first()
    if found is None:
        raise NotKnownError(f"there is no list {name}: `todoku list show` shows those there are")
    return found


def overview(opened: Opened) -> list[dict[str, Any]]:
    """All lists, each with how many are in which state, and how many get nothing of any list."""
    table, of = schema.subscription_list, schema.subscription
    person = schema.subscriber
    with opened.read() as connection:
        lists = connection.execute(select(table).order_by(table.c.name)).all()
        counted = connection.execute(
            select(of.c.list, of.c.state, person.c.blocked, func.count())
            .join(person, person.c.id == of.c.subscriber)
            .group_by(of.c.list, of.c.state, person.c.blocked)
        ).all()
    result = []
    for each in lists:
        counts = {state.value: 0 for state in Membership} | {"bounced": 0, "complained": 0, "suppressed": 0}
        for number, state, blocked, count in counted:
            if number == each.id:
                counts[blocked or state] += count
        shown = {"name": each.name, "title": each.title, "double_opt_in": each.double_opt_in}
        result.append({**shown, "is_open": each.is_open, "subscribers": counts})
    return result


def subscriber(connection: Connection, address: str) -> Row[Any] | None:
    return connection.execute(select(schema.subscriber).where(schema.subscriber.c.address == address)).first()


def put_subscriber(
    connection: Connection, address: str, attributes: Mapping[str, str], language: str, now: float
) -> int:
    """Make the person, or add to their attributes."""
    table = schema.subscriber
    known = subscriber(connection, address)
    if known is None:
        row = {"address": address, "attributes": dict(attributes), "language": language, "created": now}
        return inserted(connection, table, row)
    merged = {**known.attributes, **attributes}
    if merged != known.attributes:
        connection.execute(update(table).where(table.c.id == known.id).values(attributes=merged))
    return int(known.id)


def membership(connection: Connection, list_id: int, subscriber_id: int) -> Row[Any] | None:
    of = schema.subscription
    return connection.execute(
        select(of).where(of.c.list == list_id, of.c.subscriber == subscriber_id)
    ).first()


def set_membership(
    connection: Connection,
    list_id: int,
    subscriber_id: int,
    state: Membership,
    evidence: Evidence,
    now: float,
) -> bool:
    """Write the state and the evidence for it. False when it was so already; then nothing is written."""
    of = schema.subscription
    known = membership(connection, list_id, subscriber_id)
    if known is not None and known.state == state:
        return False
    agreed = bool(evidence.text.strip()) and state is not Membership.UNSUBSCRIBED
    row = {"state": state.value, "since": now, "has_evidence": agreed}
    if known is None:
        connection.execute(insert(of), {"list": list_id, "subscriber": subscriber_id, **row})
    else:
        here = (of.c.list == list_id) & (of.c.subscriber == subscriber_id)
        connection.execute(update(of).where(here).values(**row))
    note = {"what": evidence.what, "source": evidence.source[:500], "text": evidence.text[:5000]}
    connection.execute(
        insert(schema.consent), {"list": list_id, "subscriber": subscriber_id, "time": now, **note}
    )
    return True


def unsubscribe(
    connection: Connection, list_id: int, subscriber_id: int, source: str, now: float, recipient: int = 0
) -> bool:
    """At once, and for messages that are waiting too. False when they were unsubscribed already.

    `recipient` is the row of the message whose link was used.
    """
    evidence = Evidence("unsubscribed", source, "")
    changed = set_membership(connection, list_id, subscriber_id, Membership.UNSUBSCRIBED, evidence, now)
    of = schema.recipient
    campaigns = select(schema.campaign.c.id).where(schema.campaign.c.list == list_id)
    waiting = of.c.state.in_(("ready", "deferred"))
    connection.execute(
        update(of)
        .where(of.c.subscriber == subscriber_id, of.c.campaign.in_(campaigns), waiting)
        .values(state="unsubscribed", settled=now)
    )
    if recipient and changed:
        mine = (of.c.id == recipient) & (of.c.subscriber == subscriber_id) & of.c.later.is_(None)
        connection.execute(update(of).where(mine).values(later="unsubscribed"))
    return changed
