"""Somebody has filled in the form of a list: they get a message with a link, and are on the list once they used it.
Without that message only on a list with single opt-in, and only who has not said no before.

That message is a row like every other, of a campaign of its own that each list has: it survives crashes, keeps the
pace, and is tried again. An address gets no more than one in an hour, so that nobody can be bothered by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from todoku.campaign import campaigns, lists, persons
from todoku.campaign.lists import Evidence, Membership
from todoku.campaign.opened import Opened, inserted
from todoku.campaign.tokens import Link
from todoku.store import campaign_schema as schema

AGAIN = 3600.0  # seconds until an address is written to again
_SUBJECT = "{{ list_title }}: {% if language == 'ja' %}申し込みの確認{% else %}please confirm{% endif %}"
_TEXT = """\
{% if language == 'ja' -%}
{{ address }} の「{{ list_title }}」への申し込みを受け付けました。
次のリンクを開いて確認してください。

{{ confirm }}

お心当たりがない場合は、このメールを無視してください。今後メールが届くことはありません。
{%- else -%}
Somebody, probably you, has asked us to send {{ list_title }} to {{ address }}.
To confirm, open this link:

{{ confirm }}

If it was not you, ignore this message, and you will get no more from us.
{%- endif %}
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was filled in, and from where."""

    address: str
    language: str
    client: str
    path: str
    agreed: str = ""  # what the page said; that of the list without


def ask(opened: Opened, list_: Any, asked: Asked) -> None:
    """`list_` is its row. Nobody is told whether the address was known. Raises NotSoError for what is no address."""
    address = lists.check_address(asked.address)
    now = opened.clock()
    with opened.write() as connection:
        known = lists.subscriber(connection, address)
        if known is not None and known.blocked == "complained":
            return  # they said that they want none; who has changed their mind writes to the postmaster
        number = lists.put_subscriber(connection, address, {}, asked.language, now)
        held = lists.membership(connection, list_.id, number)
        if held is not None and held.state == Membership.CONFIRMED:
            return
        evidence = Evidence("asked", f"{asked.path} from {asked.client}", asked.agreed or list_.consent_text)
        # Anybody can fill in a form: who said no comes back by their own confirmation only, on every list.
        said_no = held is not None or persons.is_forgotten(opened, connection, address)
        if not list_.double_opt_in and not said_no:
            lists.set_membership(connection, list_.id, number, Membership.CONFIRMED, evidence, now)
            return
        if held is None:
            lists.set_membership(connection, list_.id, number, Membership.UNCONFIRMED, evidence, now)
        elif held.state == Membership.UNCONFIRMED:
            of = schema.subscription  # they have asked anew: it is not removed yet (`unconfirmed`)
            here = (of.c.list == list_.id) & (of.c.subscriber == number)
            connection.execute(update(of).where(here).values(since=now))
        _write_to(connection, _campaign(connection, list_, now), number, now)


def confirm(opened: Opened, link: Link, evidence: Evidence) -> bool:
    """They used the link of that message. Who had asked to be forgotten is known again from now on. False: the request
    was removed, as nobody confirmed it in time."""
    now = opened.clock()
    with opened.write() as connection:
        if lists.membership(connection, link.list_id, link.subscriber) is None:
            return False
        lists.set_membership(connection, link.list_id, link.subscriber, Membership.CONFIRMED, evidence, now)
        persons.remember_again(opened, connection, link.subscriber)
    return True


def _campaign(connection: Connection, list_: Any, now: float) -> int:
    table = schema.campaign
    name = f"{list_.name}:confirm"  # no name that people can give
    found = connection.execute(select(table.c.id).where(table.c.name == name)).scalar()
    if found is not None:
        return int(found)
    row = {
        "name": name,
        "list": list_.id,
        "kind": "confirmation",
        "segment": "",
        "subject": _SUBJECT,
        "text": _TEXT,
    }
    return inserted(connection, table, {**row, "state": campaigns.STARTED, "created": now, "starts": now})


def _write_to(connection: Connection, campaign: int, subscriber: int, now: float) -> None:
    got = schema.recipient
    here = (got.c.campaign == campaign) & (got.c.subscriber == subscriber)
    row = connection.execute(select(got).where(here)).first()
    new = {"state": "ready", "due": now, "attempts": 0, "settled": None, "code": None, "words": None}
    if row is None:
        key = {"campaign": campaign, "subscriber": subscriber, "variant": "a"}
        connection.execute(insert(got), {**key, **new})
    elif row.state in campaigns.SETTLED and (row.settled is None or row.settled < now - AGAIN):
        connection.execute(update(got).where(here).values(**new))
