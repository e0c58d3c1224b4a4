"""How much has been sent: per login, and against the relay's plan. One SQLite file, shared by the workers.

Every window slides (60 seconds, 24 hours, 31 days), so that no calendar minute, day or month of the relay's can
have more. What was sent is counted in buckets, and counts until its whole bucket has left the window. A message is
counted as a whole or not at all. The relay's unit is one recipient per started 2 MB (Oracle's page "Email Delivery
service capabilities and limits").
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from todoku.gate.decision import HoldBack, Refuse, Verdict
from todoku.settings import Settings

FILE = Path("/var/lib/todoku/gate/limits.sqlite3")
MINUTE, DAY, MONTH = 60, 24 * 3600, 31 * 24 * 3600
REMEMBERED = 183 * DAY  # a recipient not written to for longer is a new one again
UNIT = 2_000_000  # bytes
_BUCKETS = {MINUTE: 1, DAY: 600, MONTH: 7200}  # seconds, by window: at most 400 rows to add up
_NAMES = {MINUTE: "a minute", DAY: "in 24 hours", MONTH: "in 31 days"}
_BUSY = 5.0  # seconds to wait for another worker; then sqlite3.OperationalError
_AT_ONCE = 200  # messages counted by `spend_at_once`, between which `spend` has to be asked once
_FORGET_EVERY = 3600  # seconds
_RELAY = ""  # the relay's plan, in the place of a login
_NEAR = 80  # percent of a limit of a day or a month at which it is said to be near
_SAY_AGAIN = 600.0  # seconds; who is told has a longer memory

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (
    who TEXT, what TEXT, bucket INTEGER, start INTEGER, amount INTEGER,
    PRIMARY KEY (who, what, bucket, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS written_to (
    who TEXT, recipient TEXT, last INTEGER, PRIMARY KEY (who, recipient)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Spender:
    """Whose limits count besides the relay's plan. `reserves`: has to leave the reserved share to others."""

    name: str | None  # a login, a device's address, an alias; None: nobody's
    is_alias: bool = False
    reserves: bool = False


@dataclass(frozen=True, slots=True)
class _Limit:
    """At most `most` of `what` in any `window` seconds; this message has `asked`, and leaves `reserved` to others."""

    who: str  # a login, an alias, or _RELAY
    what: str  # "recipients", "new recipients", "forwarded recipients" or "emails"
    window: int
    most: int
    asked: int
    reserved: int = 0

    @property
    def free(self) -> int:
        return self.most - self.reserved

    @property
    def needed(self) -> int:
        """The room that has to be there. The queue spreads a message to many over the relay's next minutes."""
        return min(self.asked, self.free) if self.who == _RELAY and self.window == MINUTE else self.asked


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit that is near (`until` 0) or used up, until that second at least."""

    whose: str
    what: str
    window: int
    used: int
    most: int
    until: int = 0

    @property
    def words(self) -> str:
        return f"{self.most:,} {self.what} {_NAMES[self.window]}"


@dataclass(frozen=True, slots=True)
class Granted:
    """How many may be sent now; if that is not all that was asked, from when on there may be more, and why."""

    count: int
    until: int = 0  # seconds since 1970
    words: str = ""


Tell = Callable[[Reached], None]


class Busy(Exception):
    """It cannot be counted without waiting: for another worker, or for the disk."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """The file in one process. `patient` is for a thread, as it may wait; `quick` is for the event loop: it never
    waits for another worker, and leaves moving the log into the file (an fsync) to the other."""

    process: int
    patient: sqlite3.Connection
    quick: sqlite3.Connection


class Limits:
    """Opened lazily, in each process that uses it."""

    def __init__(self, settings: Settings, path: Path = FILE) -> None:
        self._gate = settings.gate
        self._plan = settings.relay.plan
        self._path = path
        self._opened: _Opened | None = None
        self._purged = 0
        self._said: dict[tuple[str, str, int, bool], int] = {}
        self._at_once = 0

    def open(self) -> None:
        """At once, for a process that will not be allowed to open the file later. sqlite3.Error."""
        self._open()

    def spend_at_once(
        self, spender: Spender, recipients: Sequence[str], size: int, now: float, tell: Tell = lambda _: None
    ) -> Verdict | None:
        """Like `spend`, in some 50 microseconds; or Busy, and nothing is counted: `spend` has to be asked."""
        opened = self._opened
        if opened is None or opened.process != os.getpid() or self._at_once >= _AT_ONCE:
            raise Busy
        self._at_once += 1
        return self._spend(opened.quick, spender, recipients, size, now, tell)

    def spend(
        self,
        spender: Spender,
        recipients: Sequence[str],
        size: int,
        now: float,
        tell: Tell = lambda _: None,
    ) -> Verdict | None:
        """Counts a message of `size` bytes to `recipients`, all outside; or says why not now, and counts nothing.

        `tell` hears of limits that are near or used up, of each every ten minutes at most. Waits for other workers and
        the disk. sqlite3.Error when the file cannot be used.
        """
        opened = self._open()
        self._at_once = 0
        return self._spend(opened.patient, spender, recipients, size, now, tell)

    def grant(self, asked: int, now: float) -> Granted:
        """Counts as many of `asked` emails as the relay's plan has left for bulk mail: what the gate counts of it and
        what is counted here are one. Waits as `spend` does; Busy, sqlite3.Error."""
        second = int(now)
        connection = self._open().patient
        _begin(connection)
        try:
            limits = self._plan_limits(asked, reserves=True)
            spent = _used(connection, limits, second)
            used, tightest = min(zip(spent, limits, strict=True), key=lambda each: each[1].free - each[0])
            room = tightest.free - used
            count = max(0, min(asked, room))
            _count(connection, self._plan_limits(count, reserves=True), second)
            until = 0
            if count < asked:
                one = replace(tightest, asked=1)
                until = _passes(connection, one, used + count, second) if tightest.free else second + DAY
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return Granted(
            count, until, f"the plan of the relay has {tightest.free:,} emails {_NAMES[tightest.window]}"
        )

    def give_back(self, count: int, now: float) -> None:
        """What was granted and is not sent. Busy, sqlite3.Error."""
        connection = self._open().patient
        _begin(connection)
        try:
            _count(connection, self._plan_limits(-count, reserves=True), int(now))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _spend(
        self,
        connection: sqlite3.Connection,
        spender: Spender,
        recipients: Sequence[str],
        size: int,
        now: float,
        tell: Tell,
    ) -> Verdict | None:
        second = int(now)
        everyone = sorted({address.lower() for address in recipients})
        _begin(connection)
        try:
            limits = self._plan_limits(units(len(everyone), size), reserves=spender.reserves)
            name = spender.name
            if name is not None and spender.is_alias:
                limits += self._alias_limits(name, len(everyone))
            elif name is not None:
                known = _known(connection, name, everyone, second - REMEMBERED)
                limits += self._own_limits(name, len(everyone), len(everyone) - known)
            verdict, reached = _verdict(connection, limits, second)
            if verdict is None:
                _count(connection, limits, second)
                if name is not None and not spender.is_alias:
                    _remember(connection, name, everyone, second)
            if second - self._purged > _FORGET_EVERY:
                _forget(connection, second)
                self._purged = second
            connection.execute("COMMIT")
        except BaseException:
            # SQLite may have done it itself; left open, no later message could be counted.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        for each in reached:
            self._say(each, second, tell)
        return verdict

    def _say(self, reached: Reached, second: int, tell: Tell) -> None:
        key = (reached.whose, reached.what, reached.window, bool(reached.until))
        if second - self._said.get(key, -REMEMBERED) >= _SAY_AGAIN:
            self._said = {k: at for k, at in self._said.items() if second - at < _SAY_AGAIN} | {key: second}
            tell(reached)

    def _alias_limits(self, alias: str, recipients: int) -> tuple[_Limit, ...]:
        most = self._gate.forwarded_per_day
        return (_Limit(f"the alias {alias}", "forwarded recipients", DAY, most, recipients),)

    def _own_limits(self, login: str, recipients: int, new: int) -> tuple[_Limit, ...]:
        gate = self._gate
        return (
            _Limit(login, "recipients", MINUTE, gate.recipients_per_minute, recipients),
            _Limit(login, "recipients", DAY, gate.recipients_per_day, recipients),
            _Limit(login, "new recipients", DAY, gate.new_recipients_per_day, new),
        )

    def _plan_limits(self, emails: int, *, reserves: bool) -> tuple[_Limit, ...]:
        plan, share = self._plan, self._gate.reserved_share if reserves else 0
        windows = ((MINUTE, plan.per_minute), (DAY, plan.per_day), (MONTH, plan.per_month))
        return tuple(
            _Limit(_RELAY, "emails", window, most, emails, most * share // 100) for window, most in windows
        )

    def _open(self) -> _Opened:
        if self._opened is None or self._opened.process != os.getpid():
            patient = _open(self._path)
            quick = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
            quick.execute("PRAGMA synchronous = NORMAL")
            quick.execute("PRAGMA wal_autocheckpoint = 0")
            self._opened = _Opened(os.getpid(), patient, quick)
        return self._opened


def used(connection: sqlite3.Connection, now: int) -> dict[str, int]:
    """What of the relay's plan is used, in emails, by window ("a minute", "in 24 hours", "in 31 days")."""
    query = (
        "SELECT coalesce(sum(amount), 0) FROM spent WHERE who = ? AND what = ? AND bucket = ? AND start > ?"
    )
    spent = {}
    for window, size in _BUCKETS.items():
        (spent[_NAMES[window]],) = connection.execute(
            query, (_RELAY, "emails", size, now - window - size)
        ).fetchone()
    return spent


def units(recipients: int, size: int) -> int:
    """What the relay counts as "emails": a recipient for each started 2 MB."""
    return recipients * max(1, -(-size // UNIT))


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # whom people write to is nobody else's business
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last counts, not the file
    connection.executescript(_SCHEMA)
    return connection


def _begin(connection: sqlite3.Connection) -> None:
    """From here on nobody else writes. Busy when somebody does, for longer than the connection waits."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise Busy from error
        raise


def _use_wal(connection: sqlite3.Connection) -> None:
    """Changing the journal's mode does not wait for other workers that open the new file at the same moment."""
    until = time.monotonic() + _BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
        time.sleep(0.01)


def _known(connection: sqlite3.Connection, who: str, recipients: Iterable[str], since: int) -> int:
    query = "SELECT 1 FROM written_to WHERE who = ? AND recipient = ? AND last >= ?"
    return sum(connection.execute(query, (who, each, since)).fetchone() is not None for each in recipients)


def _remember(connection: sqlite3.Connection, who: str, recipients: Iterable[str], now: int) -> None:
    connection.executemany(
        "INSERT INTO written_to VALUES (?, ?, ?) "
        "ON CONFLICT (who, recipient) DO UPDATE SET last = excluded.last",
        [(who, address, now) for address in recipients],
    )


def _count(connection: sqlite3.Connection, limits: Iterable[_Limit], now: int) -> None:
    places = {(limit.who, limit.what, _BUCKETS[limit.window]): limit.asked for limit in limits}
    connection.executemany(
        "INSERT INTO spent VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (who, what, bucket, start) DO UPDATE SET amount = amount + excluded.amount",
        [(who, what, size, now - now % size, asked) for (who, what, size), asked in places.items() if asked],
    )


def _verdict(
    connection: sqlite3.Connection, limits: Sequence[_Limit], now: int
) -> tuple[Verdict | None, list[Reached]]:
    """The refusal of the limit that takes longest to pass; and those that are used up by it, or nearly."""
    worst: tuple[int, _Limit] | None = None
    near: list[Reached] = []
    for limit, used in zip(limits, _used(connection, limits, now), strict=True):
        if limit.needed > limit.free:
            return _never(limit), []
        until = _passes(connection, limit, used, now)
        if until > now and (worst is None or until > worst[0]):
            worst = until, limit
        then = used + limit.asked
        # Of a minute nobody could make use when the warning is read.
        if limit.window != MINUTE and limit.asked and 100 * then >= _NEAR * limit.most:
            near.append(Reached(_whose(limit), limit.what, limit.window, then, limit.most))
    if worst is None:
        return None, near
    until, limit = worst
    return _later(until, limit), [
        Reached(_whose(limit), limit.what, limit.window, limit.free, limit.free, until)
    ]


_WITHIN = "FROM spent WHERE who = ? AND what = ? AND bucket = ? AND start > ?"


def _within(limit: _Limit, now: int) -> tuple[str, str, int, int]:
    """What of `spent` counts for the limit, for _WITHIN."""
    size = _BUCKETS[limit.window]
    return limit.who, limit.what, size, now - limit.window - size


def _used(connection: sqlite3.Connection, limits: Sequence[_Limit], now: int) -> tuple[int, ...]:
    """What is used of each: asked in one, as each question has its price."""
    sums = ", ".join([f"(SELECT coalesce(sum(amount), 0) {_WITHIN})"] * len(limits))
    keys = [part for limit in limits for part in _within(limit, now)]
    found: tuple[int, ...] = connection.execute(f"SELECT {sums}", keys).fetchone()
    return found


def _passes(connection: sqlite3.Connection, limit: _Limit, used: int, now: int) -> int:
    """When there is room for what is asked: `now`, or when enough has left the window."""
    excess = used + limit.needed - limit.free
    if excess <= 0 or not limit.asked:
        return now
    query = f"SELECT start, amount {_WITHIN} ORDER BY start"
    with closing(connection.execute(query, _within(limit, now))) as oldest_first:
        for start, amount in oldest_first:
            excess -= amount
            if excess <= 0:
                return int(start) + _BUCKETS[limit.window] + limit.window
    raise AssertionError("the sum is that of the rows, and what is asked fits alone")


def _never(limit: _Limit) -> Refuse:
    return Refuse(
        550,
        "5.5.3",
        f"This message counts as {limit.asked:,} {limit.what}, and {_whose(limit)} has {limit.free:,} "
        f"{_NAMES[limit.window]}{_for_whom(limit)}: send it to fewer recipients at a time{_how(limit)}",
    )


def _later(until: int, limit: _Limit) -> HoldBack:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(until))
    return HoldBack(
        451,
        "4.7.1",
        f"{_whose(limit)} has {limit.free:,} {limit.what} {_NAMES[limit.window]}{_for_whom(limit)}, and they are "
        f"used up: this message can be sent from {at} on{_how(limit)}",
    )


def _for_whom(limit: _Limit) -> str:
    return " for bulk and forwarded mail (gate.reserved_share)" if limit.reserved else ""


def _whose(limit: _Limit) -> str:
    return "the plan of the relay" if limit.who == _RELAY else limit.who


def _how(limit: _Limit) -> str:
    keys = {MINUTE: "per_minute", DAY: "per_day", MONTH: "per_month"}
    if limit.who == _RELAY:
        return f" (relay.plan.{keys[limit.window]} in the settings)"
    name = "forwarded" if limit.what == "forwarded recipients" else limit.what
    return f" (gate.{name.replace(' ', '_')}_{keys[limit.window]} in the settings)"


def _forget(connection: sqlite3.Connection, now: int) -> None:
    connection.execute("DELETE FROM written_to WHERE last < ?", (now - REMEMBERED,))
    for window, bucket in _BUCKETS.items():
        connection.execute(
            "DELETE FROM spent WHERE bucket = ? AND start < ?", (bucket, now - window - bucket)
        )
