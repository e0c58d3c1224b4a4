"""The pace of several workers together: token bucket and windows in PostgreSQL, which one at a time takes its share of.

The relay's plan is kept to twice. All bulk mail of all machines together has what the plan leaves to it, counted here;
and each machine's gate counts it too, what the others send included, so that personal mail there knows what is left.
What is granted to a worker that dies is not given back: rather too few than too many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from todoku.campaign.opened import Opened
from todoku.campaign.pace import DAY, HOUR, MINUTE, STEP, Allowed, Pace
from todoku.campaign.rows import Leased
from todoku.gate.limits import Limits
from todoku.store import campaign_schema as schema

_MONTH = 31 * DAY
_BUCKETS = {MINUTE: 1, HOUR: 60, DAY: 600, _MONTH: 7200}  # seconds, by window
_WARM = DAY  # the bucket of a whole day
_NAMES = {MINUTE: "a minute", HOUR: "an hour", DAY: "in 24 hours", _MONTH: "in 31 days"}
_FORGET_EVERY = 3600.0  # seconds
_spent, _on_domain, _pace = schema.spent, schema.spent_on_domain, schema.shared_pace


class SharedPace(Pace):
    """Of one worker of several. `now` is always the database's (`leases.DatabaseClock`)."""

    def __init__(self, opened: Opened, limits: Limits, owner: str) -> None:
        super().__init__(opened.wanted, limits)
        self._opened, self._owner = opened, owner
        plan, share = opened.settings.relay.plan, opened.settings.gate.reserved_share
        self._windows = [
            (window, most - most * share // 100)
            for window, most in ((MINUTE, plan.per_minute), (DAY, plan.per_day), (_MONTH, plan.per_month))
        ]
        if self._wanted.per_hour:
            self._windows.append((HOUR, self._wanted.per_hour))
        self._granted: Counter[str] = Counter()  # by domain, of the batch that is being sent
        self._full_until: dict[str, float] = {}
        self._elsewhere: dict[str, float] = {}  # domains that another worker tries out
        self._others: float | None = None  # what the others have been granted, as far as the gate here knows
        self._mine = 0
        self._forgot = 0.0

    def load(self, connection: Connection, now: float) -> None:
        """What was sent before there were several, once for all."""
        _lock(connection)
        if connection.execute(select(_spent.c.start).limit(1)).first():
            return
        got = schema.recipient
        for size, since in [*((size, now - window) for window, size in _BUCKETS.items()), (_WARM, 0.0)]:
            start = func.floor(got.c.settled / literal(float(size))) * size
            counted = (
                select(literal(size), start.label("start"), func.count())
                .where(got.c.state == "sent", got.c.settled > since)
                .group_by("start")
            )
            connection.execute(insert(_spent).from_select(["seconds", "start", "amount"], counted))

    def allow(self, asked: int, now: float) -> Allowed:
        """Up to `asked`; counted for all workers. Raises gate.limits.Busy, sqlite3.Error, `StoreError`."""
        if until := self._quiet_until(now):
            return Allowed(0, until, f"quiet hours ({self._wanted.quiet_hours})")
        with self._opened.write() as connection:
            allowed, granted_in_all = self._take(connection, asked, now)
        self._tell_the_gate(granted_in_all, now)
        if not allowed.count:
            return allowed
        granted = self._limits.grant(allowed.count, now)
        if granted.count < allowed.count:
            with self._opened.write() as connection:
                _lock(connection)
                self._count(connection, granted.count - allowed.count, now)
        if not granted.count:
            return Allowed(0, float(granted.until), granted.words)
        return Allowed(granted.count)

    def give_back(self, count: int, now: float) -> None:
        if not count:
            return
        self._limits.give_back(count, now)
        with self._opened.write() as connection:
            _lock(connection)
            self._count(connection, -count, now)

    def _take(self, connection: Connection, asked: int, now: float) -> tuple[Allowed, float]:
        row = _lock(connection)
        most = float(self._wanted.per_second)
        tokens = min(most, row.tokens + max(0.0, now - row.filled) * most)
        filled = max(now, row.filled)
        connection.execute(update(_pace).values(tokens=tokens, filled=filled))
        if tokens < 1:
            return Allowed(0, now + (1 - tokens) / most, "per_second"), row.granted
        count, full = min(asked, int(tokens)), None
        for (window, free), used in zip(self._windows, self._used(connection, now), strict=True):
            count = min(count, free - used)
            if free - used <= 0:
                until = self._until(connection, window, used - free + 1, now)
                full = Allowed(0, until, f"{free:,} {_NAMES[window]} for all workers together")
        if self._wanted.warm_up is not None:
            room = self._warm_room_of_all(connection, now)
            count = min(count, room)
            if room <= 0:
                full = Allowed(0, (now // DAY + 1) * DAY, f"warm-up: {self.warm_limit:,} today")
        if full is not None:
            return full, row.granted
        self._count(connection, count, now)
        self._forget(connection, now)
        return Allowed(count), row.granted + count

    def _used(self, connection: Connection, now: float) -> Sequence[int]:
        sums = [
            select(func.coalesce(func.sum(_spent.c.amount), 0))
            .where(_spent.c.seconds == size, _spent.c.start > now - window - size)
            .scalar_subquery()
            for window, size in ((window, _BUCKETS[window]) for window, _ in self._windows)
        ]
        return [int(used) for used in connection.execute(select(*sums)).one()]

    def _until(self, connection: Connection, window: int, excess: int, now: float) -> float:
        """When enough has left the window."""
        size = _BUCKETS[window]
        query = (
            select(_spent.c.start, _spent.c.amount)
            .where(_spent.c.seconds == size, _spent.c.start > now - window - size)
            .order_by(_spent.c.start)
        )
        for start, amount in connection.execute(query):
            excess -= amount
            if excess <= 0:
                return float(start + size + window)
        return now + window  # of a limit of nothing

    def _count(self, connection: Connection, count: int, now: float) -> None:
        """For all workers. Less than nothing: given back."""
        sizes = {_BUCKETS[window] for window, _ in self._windows} | {_WARM}
        rows = [
            {"seconds": size, "start": int(now // size) * size, "amount": count} for size in sorted(sizes)
        ]
        statement = upsert(_spent).values(rows)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["seconds", "start"],
                set_={"amount": _spent.c.amount + statement.excluded.amount},
            )
        )
        connection.execute(
            update(_pace).values(tokens=_pace.c.tokens - count, granted=_pace.c.granted + count)
        )
        self._mine += count

    def _warm_room_of_all(self, connection: Connection, now: float) -> int:
        today = int(now // DAY) * DAY
        days = select(_spent.c.start, _spent.c.amount).where(_spent.c.seconds == _WARM, _spent.c.amount > 0)
        found: dict[int, int] = {row.start: row.amount for row in connection.execute(days)}
        self._days = sum(start < today for start in found)
        return self.warm_limit - found.get(today, 0)

    def _tell_the_gate(self, granted_in_all: float, now: float) -> None:
        """What other machines send counts here as well, for the personal mail of this one."""
        others = granted_in_all - self._mine
        if self._others is None:
            self._others = others
        elif (
            others > self._others
        ):  # less only when they give back: that is not worth room beyond a limit later on
            self._limits.give_back(int(self._others - others), now)  # less than nothing: counted
            self._others = others

    def _forget(self, connection: Connection, now: float) -> None:
        if now - self._forgot < _FORGET_EVERY:
            return
        for window, size in _BUCKETS.items():
            old = (_spent.c.seconds == size) & (_spent.c.start < now - window - size)
            connection.execute(delete(_spent).where(old))
        connection.execute(delete(_on_domain).where(_on_domain.c.start < now - MINUTE - 1))
        self._forgot = now

    # -- domains

    def admit(self, connection: Connection, jobs: Sequence[Leased], now: float) -> None:
        """How many of these may go to each domain, told to `domain_until`."""
        self._take_slowed(connection, now)
        self._read_slowed(connection, now)
        self._granted.clear()
        self._full_until.clear()
        most = self._wanted.per_domain_per_minute
        asked = Counter(job.domain for job in jobs)
        if not most or not asked:
            return
        _lock(connection)
        of_these = (_on_domain.c.domain.in_(list(asked)), _on_domain.c.start > now - MINUTE - 1)
        query = select(_on_domain.c.domain, func.sum(_on_domain.c.amount), func.min(_on_domain.c.start))
        used = {
            domain: (int(amount), start)
            for domain, amount, start in connection.execute(
                query.where(*of_these).group_by(_on_domain.c.domain)
            )
        }
        for domain, count in asked.items():
            amount, oldest = used.get(domain, (0, int(now)))
            self._granted[domain] = max(0, min(count, most - amount))
            self._full_until[domain] = float(oldest + MINUTE + 1)
        rows = [
            {"domain": domain, "start": int(now), "amount": count}
            for domain, count in sorted(self._granted.items())
            if count
        ]
        if rows:
            statement = upsert(_on_domain).values(rows)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["domain", "start"],
                    set_={"amount": _on_domain.c.amount + statement.excluded.amount},
                )
            )

    def _take_slowed(self, connection: Connection, now: float) -> None:
        """Of what the relay's log says nobody is the owner: the first worker to see it tries that domain again."""
        table = schema.slowed
        taken = connection.execute(
            update(table)
            .where(table.c.owner.is_(None), table.c.rests_until > now)
            .values(owner=self._owner)
            .returning(table.c.domain, table.c.rests_until)
        )
        for row in taken.all():
            self._slow(row.domain, row.rests_until)

    def _read_slowed(self, connection: Connection, now: float) -> None:
        table, takes = schema.slowed, STEP * self._wanted.connections
        mine = func.coalesce(table.c.owner, "") == self._owner
        others = select(table.c.domain, table.c.rests_until).where(table.c.rests_until + takes > now, ~mine)
        self._elsewhere = {row.domain: row.rests_until + takes for row in connection.execute(others)}

    def domain_until(self, domain: str, now: float) -> float:
        """As for one sender. After a 4.7.28, who heard it tries again, one at a time and then more; the others wait."""
        if (over := self._elsewhere.get(domain, 0.0)) > now:
            return over
        return super().domain_until(domain, now)

    def _domain_full_until(self, domain: str, now: float) -> float:
        if not self._wanted.per_domain_per_minute:
            return 0.0
        if self._granted[domain] <= 0:
            return max(now + 1, self._full_until.get(domain, 0.0))
        self._granted[domain] -= 1
        return 0.0

    def keep(self, connection: Connection, now: float) -> None:
        """Of two who hear it at the same time, the later one tries that domain again."""
        table = schema.slowed
        for domain, until in sorted(self._to_keep.items()):
            values = {"rests_until": until, "owner": self._owner}
            statement = upsert(table).values(domain=domain, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["domain"], set_=values))
        if self._to_keep:
            over = now - STEP * self._wanted.connections
            connection.execute(delete(table).where(table.c.rests_until < over))
        self._to_keep = {}


def _lock(connection: Connection) -> Any:
    """From here to the end of the transaction nobody else counts."""
    return connection.execute(select(_pace).where(_pace.c.id == 1).with_for_update()).one()
