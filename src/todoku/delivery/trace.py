"""The journey of a message as the ledger knows it: found by an address, a Message-ID or a queue ID."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select, union_all

from todoku.delivery.states import State
from todoku.store import ledger
from todoku.store import ledger_schema as schema

_QUEUE_ID = re.compile(r"[0-9A-Za-z]{5,20}")


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt to deliver. `time`: seconds since 1970."""

    time: float
    state: State
    host: str
    words: str


@dataclass(frozen=True, slots=True)
class Reached:
    """One recipient, and every attempt, oldest first. `original`: the alias that led here, or empty."""

    address: str
    original: str
    state: State
    since: float
    words: str
    attempts: tuple[Tried, ...]
    next_try: float | None = None  # while it is deferred: not before then


@dataclass(frozen=True, slots=True)
class Journey:
    """One message. `gate`: what the gate decided, with its words; empty when it is not known."""

    arrived: float
    queue_id: str
    message_id: str
    login: str
    client: str
    sender: str
    size: int | None
    gate: str
    rule: str
    words: str
    subject: str
    parent: str  # queue ID of the message that this one is a notice about
    removed: float | None
    recipients: tuple[Reached, ...]


def trace(engine: Engine, what: str, most: int = 20) -> list[Journey]:
    """The latest `most` messages that `what` names, the newest first. Raises `StoreError`.

    `what` with @ in angle brackets is a Message-ID; with @ an address (a sender, a recipient or an alias) or a
    Message-ID; without, a queue ID.
    """
    with ledger.read(engine) as connection:
        numbers = _numbers(connection, what.strip(), most)
        return _journeys(connection, numbers)


def _numbers(connection: Connection, what: str, most: int) -> list[int]:
    message, recipient = schema.message, schema.recipient
    latest = select(message.c.id).order_by(message.c.id.desc()).limit(most)
    if "@" not in what:
        if not _QUEUE_ID.fullmatch(what):
            return []
        found = list(connection.execute(latest.where(message.c.queue_id == what)).scalars())
        notices = latest.where(message.c.parent.in_([what])) if found else None
        more = list(connection.execute(notices).scalars()) if notices is not None else []
        return sorted({*found, *more}, reverse=True)
    bare = what.strip("<>")
    address = bare.lower()
    by_id = latest.where(message.c.message_id.in_([f"<{bare}>", bare])).subquery()
    if what.startswith("<"):
        return list(connection.execute(select(by_id)).scalars())
    by_sender = latest.where(message.c.sender == address).subquery()
    # Each part by its own index, and only the latest of each.
    by_recipient = (
        select(recipient.c.message)
        .where(recipient.c.address == address)
        .order_by(recipient.c.message.desc())
        .limit(most)
    )
    by_alias = (
        select(recipient.c.message)
        .where(recipient.c.original == address)
        .order_by(recipient.c.message.desc())
        .limit(most)
    )
    everything = union_all(
        select(by_id), select(by_sender), select(by_recipient.subquery()), select(by_alias.subquery())
    )
    return sorted(set(connection.execute(everything).scalars()), reverse=True)[:most]


def _journeys(connection: Connection, numbers: Sequence[int]) -> list[Journey]:
    message, recipient, attempt = schema.message, schema.recipient, schema.attempt
    if not numbers:
        return []
    attempts: dict[int, list[Tried]] = {}
    tried = (
        select(attempt)
        .join(recipient, attempt.c.recipient == recipient.c.id)
        .where(recipient.c.message.in_(numbers))
        .order_by(attempt.c.id)
    )
    for row in connection.execute(tried):
        attempts.setdefault(row.recipient, []).append(
            Tried(row.time, State(row.state), row.host or "", row.words or "")
        )
    recipients: dict[int, list[Reached]] = {}
    reached = select(recipient).where(recipient.c.message.in_(numbers)).order_by(recipient.c.id)
    for row in connection.execute(reached):
        made = tuple(attempts.get(row.id, ()))
        one = Reached(
            row.address, row.original or "", State(row.state), row.since, row.words or "", made, row.next_try
        )
        recipients.setdefault(row.message, []).append(one)
    rows = connection.execute(select(message).where(message.c.id.in_(numbers)).order_by(message.c.id.desc()))
    return [
        Journey(
            row.arrived, row.queue_id or "", row.message_id or "", row.login or "", row.client or "",
            row.sender or "", row.size, row.gate or "", row.rule or "", row.words or "", row.subject or "",
            row.parent or "", row.removed, tuple(recipients.get(row.id, ())),
        )
        for row in rows
    ]  # fmt: skip
