"""How much went where, counted from the ledger: by day, account or domain."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Engine, cast, func, literal_column, select

from todoku.delivery.states import State
from todoku.store import ledger
from todoku.store import ledger_schema as schema

By = Literal["day", "account", "domain"]
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Count:
    """`of`: a day (UTC), a login or a recipient's domain; `states`: how many recipients are in each state."""

    of: str
    states: dict[State, int]

    @property
    def total(self) -> int:
        return sum(self.states.values())


def count(engine: Engine, by: By, since: float) -> list[Count]:
    """Recipients of messages that arrived since then (seconds since 1970): days in order, others by number.

    Raises `StoreError`.
    """
    message, recipient = schema.message, schema.recipient
    key: ColumnElement[Any]
    if by == "account":
        key = message.c.login
    elif by == "day":
        seconds = cast(message.c.arrived, BigInteger)
        key = seconds - seconds % literal_column("86400")  # PostgreSQL takes no two parameters for the same
    else:
        key = recipient.c.address
    query = (
        select(key, recipient.c.state, func.count())
        .join(message, recipient.c.message == message.c.id)
        .where(message.c.arrived >= since)
        .group_by(key, recipient.c.state)
    )
    found: defaultdict[str, Counter[State]] = defaultdict(Counter)
    with ledger.read(engine) as connection:
        for of, state, number in connection.execute(query):
            found[_name(by, of)][State(state)] += number
    counts = [Count(of, dict(states)) for of, states in found.items()]
    return sorted(
        counts, key=(lambda each: each.of) if by == "day" else (lambda each: (-each.total, each.of))
    )


def latest(engine: Engine) -> float | None:
    """When the latest message arrived; None when there is none. Raises `StoreError`."""
    with ledger.read(engine) as connection:
        found = connection.execute(select(func.max(schema.message.c.arrived))).scalar()
    return None if found is None else float(found)


def _name(by: By, of: object) -> str:
    if by == "day":
        return datetime.fromtimestamp(float(str(of)), UTC).strftime("%Y-%m-%d")
    if by == "domain":
        return str(of).rpartition("@")[2]
    return str(of or "(not logged in)")
