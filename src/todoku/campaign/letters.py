"""What a campaign's messages have in common, read from the database; and previews."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from todoku.campaign import campaigns, lists, tracking
from todoku.campaign.errors import NotKnownError
from todoku.campaign.message import Letter, Person
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source, Templates
from todoku.store import campaign_schema as schema


def letter_of(opened: Opened, campaign: Any) -> Letter:
    """`campaign` is its row. Raises TemplateFault."""
    table = schema.subscription_list
    with opened.read() as connection:
        found = connection.execute(select(table).where(table.c.id == campaign.list)).one()
        counted = tracking.counted(connection, campaign)
    html = campaign.html if counted is None else tracking.marked(campaign.html, counted)
    source = Source(campaign.subject, campaign.text, html, campaign.subject_b)
    names = (campaign.id, campaign.name), (found.id, found.name, found.title)
    return Letter.of(opened, Templates(source), *names, bulk=campaign.kind == "bulk", counted=counted)


def people(opened: Opened, name: str, most: int) -> list[Person]:
    """Some of a campaign's recipients, the first ones."""
    got, person = schema.recipient, schema.subscriber
    with opened.read() as connection:
        campaign = campaigns.find(connection, name)
        query = (
            select(got.c.id, got.c.variant, person.c.id.label("subscriber"), person.c.address)
            .add_columns(person.c.attributes, person.c.language)
            .join(person, person.c.id == got.c.subscriber)
            .where(got.c.campaign == campaign.id)
            .order_by(got.c.id)
            .limit(most)
        )
        return [
            Person(row.subscriber, row.address, row.attributes, row.language, row.id, row.variant)
            for row in connection.execute(query)
        ]


def preview(opened: Opened, name: str, address: str | None = None) -> bytes:
    """The message as `address` gets it, or the first of the recipients; its subject is theirs, or the first one where
    that is not known. Its links are nobody's: who tries them out unsubscribes no one.

    Raises NotKnownError, TemplateFault.
    """
    with opened.read() as connection:
        campaign = campaigns.find(connection, name)
        known = None if address is None else lists.subscriber(connection, lists.check_address(address))
        variant = None if known is None else _variant(connection, campaign.id, known.id)
    if address is not None and known is None:
        raise NotKnownError(f"there is no subscriber {address}")
    if known is not None:
        to = Person(0, known.address, known.attributes, known.language, variant=variant or "a")
    else:
        some = people(opened, name, 1)
        if not some:
            raise NotKnownError(f"the campaign {name} has no recipients")
        to = replace(some[0], subscriber=0, recipient=0)
    return letter_of(opened, campaign).write(to, opened.clock())


def _variant(connection: Connection, campaign: int, subscriber: int) -> str | None:
    got = schema.recipient
    whose = (got.c.campaign == campaign) & (got.c.subscriber == subscriber)
    return connection.execute(select(got.c.variant).where(whose)).scalar()
