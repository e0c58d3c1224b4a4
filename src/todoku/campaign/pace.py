"""How fast: the relay's plan, which is shared with personal mail, and what the settings ask for besides.

The plan's counters are the gate's (`gate.limits`). What was sent in the last hour, in the last minute to a domain, and
on the days of a warm-up is read from the database at the start and counted on from there, and so are the domains
that are slowed down: all of it survives restarts; only the pace within a second begins anew.
Of several senders: `shared_pace`.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, func, insert, literal_column, select

from todoku.campaign.rows import Leased
from todoku.gate.limits import Limits
from todoku.settings.campaign import Campaign
from todoku.store import campaign_schema as schema

MINUTE, HOUR, DAY = 60, 3600, 86_400
GROWTH = 1.5  # warm-up: how much more on each later day
TOO_FAST = "4.7.28"
REST = 600.0  # seconds: "stop for ten minutes" (Google, "Email sender guidelines", 4.7.28)
STEP = 60.0  # seconds after which one more at a time is tried


class Window:
    """At most `most` in any `seconds`; counted in buckets of a sixtieth."""

    def __init__(self, most: int, seconds: int) -> None:
        self._most, self._seconds, self._bucket = most, seconds, max(1, seconds // 60)
        self._counts: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, now: float, count: int) -> None:
        start = int(now) - int(now) % self._bucket
        if self._counts and self._counts[-1][0] == start:
            start, before = self._counts.pop()
            self._counts.append((start, before + count))
        else:
            self._counts.append((start, count))
        self._sum += count

    def room(self, now: float) -> int:
        while self._counts and self._counts[0][0] + self._bucket + self._seconds <= now:
            self._sum -= self._counts.popleft()[1]
        return max(0, self._most - self._sum)

    def until(self, now: float) -> float:
        """When there is room again, for one at least."""
        if self.room(now):
            return now
        excess = self._sum - self._most + 1
        for start, count in self._counts:
            excess -= count
            if excess <= 0:
                return float(start + self._bucket + self._seconds)
        return now + self._seconds


@dataclass(frozen=True, slots=True)
class Allowed:
    """How many may be sent now. None: `until` when, and why."""

    count: int
    until: float = 0.0
    words: str = ""


class Pace:
    """Of one sender. `limits` are the gate's counters."""

    def __init__(self, wanted: Campaign, limits: Limits) -> None:
        self._wanted, self._limits = wanted, limits
        self._hour = Window(wanted.per_hour, HOUR) if wanted.per_hour else None
        self._domains: dict[str, Window] = {}
        self._zone = ZoneInfo(wanted.time_zone)
        self._day, self._today, self._days = "", 0, 0
        self._tokens, self._filled = 1.0, 0.0
        self._resting: dict[str, float] = {}
        self._at_a_time: dict[str, int] = {}
        self._stepped: dict[str, float] = {}
        self._to_keep: dict[str, float] = {}
        self._on_the_way: Counter[str] = Counter()

    def load(self, connection: Connection, now: float) -> None:
        """What was sent before this process began."""
        sent = schema.recipient
        done = sent.c.state == "sent"
        if self._hour is not None:
            when = connection.execute(select(sent.c.settled).where(done, sent.c.settled > now - HOUR))
            for (at,) in when.all():
                self._hour.add(at, 1)
        if self._wanted.per_domain_per_minute:
            recent = connection.execute(
                select(sent.c.settled, schema.subscriber.c.address)
                .join(schema.subscriber, schema.subscriber.c.id == sent.c.subscriber)
                .where(done, sent.c.settled > now - MINUTE)
            )
            for at, address in recent.all():
                self._domain(address.rpartition("@")[2]).add(at, 1)
        for row in connection.execute(select(schema.slowed)):
            self._slow(row.domain, row.rests_until)
        self._day = self._date(now)
        self._days, self._today = self._sent_days(connection, now) if self._wanted.warm_up else (0, 0)

    def _sent_days(self, connection: Connection, now: float) -> tuple[int, int]:
        """On how many days before today anything was sent, and how much today. Days of UTC are near enough."""
        sent = schema.recipient
        # Literal: as a parameter it would not be the same in both places for PostgreSQL.
        day = func.floor(sent.c.settled / literal_column(f"{DAY}.0"))
        counted = connection.execute(
            select(day, func.count()).where(sent.c.state == "sent").group_by(day)
        ).all()
        today = now // DAY
        return sum(each < today for each, _ in counted), sum(
            count for each, count in counted if each == today
        )

    def allow(self, asked: int, now: float) -> Allowed:
        """Up to `asked`; what is allowed is counted. Raises gate.limits.Busy, sqlite3.Error."""
        if until := self._quiet_until(now):
            return Allowed(0, until, f"quiet hours ({self._wanted.quiet_hours})")
        self._tokens = min(
            float(self._wanted.per_second), self._tokens + (now - self._filled) * self._wanted.per_second
        )
        self._filled = now
        if self._tokens < 1:
            return Allowed(0, now + (1 - self._tokens) / self._wanted.per_second, "per_second")
        count = min(asked, int(self._tokens))
        if self._hour is not None:
            if not (room := self._hour.room(now)):
                return Allowed(
                    0, self._hour.until(now), f"{self._wanted.per_hour:,} an hour (campaign.per_hour)"
                )
            count = min(count, room)
        if self._wanted.warm_up is not None:
            if not (room := self._warm_room(now)):
                return Allowed(0, (now // DAY + 1) * DAY, f"warm-up: {self.warm_limit:,} today")
            count = min(count, room)
        granted = self._limits.grant(count, now)
        if not granted.count:
            return Allowed(0, float(granted.until), granted.words)
        self._counted(granted.count, now)
        return Allowed(granted.count)

    def give_back(self, count: int, now: float) -> None:
        """What was allowed and not sent."""
        if count:
            self._limits.give_back(count, now)
            self._counted(-count, now)

    def _counted(self, count: int, now: float) -> None:
        self._tokens -= count
        self._today += count
        if self._hour is not None:
            self._hour.add(now, count)

    # -- warm-up and quiet hours

    @property
    def warm_limit(self) -> int:
        return int((self._wanted.warm_up or 0) * GROWTH ** min(self._days, 60))

    def _warm_room(self, now: float) -> int:
        if self._date(now) != self._day:
            self._days += self._today > 0
            self._day, self._today = self._date(now), 0
        return max(0, self.warm_limit - self._today)

    def _date(self, now: float) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(now))

    def _quiet_until(self, now: float) -> float:
        if self._wanted.quiet_hours is None:
            return 0.0
        begin, _, end = self._wanted.quiet_hours.partition("-")
        here = datetime.fromtimestamp(now, self._zone)
        clock = here.strftime("%H:%M")
        quiet = begin <= clock < end if begin <= end else clock >= begin or clock < end
        if not quiet:
            return 0.0
        over = here.replace(hour=int(end[:2]), minute=int(end[3:]), second=0, microsecond=0)
        return (over if over > here else over + timedelta(days=1)).timestamp()

    # -- domains

    def _domain(self, domain: str) -> Window:
        most = self._wanted.per_domain_per_minute or 1
        return self._domains.setdefault(domain, Window(most, MINUTE))

    def domain_until(self, domain: str, now: float) -> float:
        """0: one to this domain may go now, and is counted (`arrived` when it has its answer). Else from when on."""
        if (rest := self._resting.get(domain, 0.0)) > now:
            return rest
        at_a_time = self._at_a_time.get(domain)
        if at_a_time is not None:
            while now - self._stepped[domain] >= STEP:
                at_a_time += 1
                self._stepped[domain] += STEP
            if at_a_time >= self._wanted.connections:
                del self._at_a_time[domain], self._stepped[domain]
            else:
                self._at_a_time[domain] = at_a_time
                if self._on_the_way[domain] >= at_a_time:
                    return now + 1
        if full := self._domain_full_until(domain, now):
            return full
        self._on_the_way[domain] += 1
        return 0.0

    def _domain_full_until(self, domain: str, now: float) -> float:
        """0: there was room for one this minute, and it is counted."""
        if not self._wanted.per_domain_per_minute:
            return 0.0
        window = self._domain(domain)
        if not window.room(now):
            return window.until(now)
        window.add(now, 1)
        return 0.0

    def admit(self, connection: Connection, jobs: Sequence[Leased], now: float) -> None:  # noqa: ARG002
        """These were leased. One sender counts them when they go. What was heard meanwhile of domains is kept to."""
        for row in connection.execute(select(schema.slowed).where(schema.slowed.c.rests_until > now)):
            if row.rests_until > self._resting.get(row.domain, 0.0):
                self._slow(row.domain, row.rests_until)

    def arrived(self, domain: str, words: str, now: float) -> None:
        """The answer to one that was on its way. 4.7.28: nothing for ten minutes, then one at a time, then two..."""
        self._on_the_way[domain] -= 1
        if not self._on_the_way[domain]:
            del self._on_the_way[domain]
        if TOO_FAST in words:
            self._slow(domain, now + REST)
            self._to_keep[domain] = now + REST

    def _slow(self, domain: str, until: float) -> None:
        self._resting[domain] = until
        self._at_a_time[domain], self._stepped[domain] = 1, until

    def keep(self, connection: Connection, now: float) -> None:
        """Which domains were slowed down since the last time: with the answer that said so, in its transaction."""
        table = schema.slowed
        for domain, until in self._to_keep.items():
            connection.execute(delete(table).where(table.c.domain == domain))
            connection.execute(insert(table), {"domain": domain, "rests_until": until})
        if self._to_keep:
            # By then as many at a time are tried as there are connections.
            over = now - STEP * self._wanted.connections
            connection.execute(delete(table).where(table.c.rests_until < over))
        self._to_keep = {}

    def resting(self, now: float) -> Iterable[str]:
        return [domain for domain, until in self._resting.items() if until > now]
