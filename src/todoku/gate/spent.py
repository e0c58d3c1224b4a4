"""What has been sent, counted in one SQLite file that the workers of the gate share, and the sender of bulk mail.

What was sent is counted in buckets, and counts until its whole bucket has left the window.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

FILE = Path("/var/lib/todoku/gate/limits.sqlite3")
MINUTE, DAY, MONTH = 60, 24 * 3600, 31 * 24 * 3600
RELAY = ""  # the relay's plan, in the place of a login
REMEMBERED = 183 * DAY  # a recipient not written to for longer is a new one again
UNIT = 2_000_000  # bytes
BUCKETS = {MINUTE: 1, DAY: 600, MONTH: 7200}  # seconds, by window: at most 400 rows to add up
NAMES = {MINUTE: "a minute", DAY: "in 24 hours", MONTH: "in 31 days"}
_BUSY = 5.0  # seconds to wait for another worker; then sqlite3.OperationalError
SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (
    who TEXT, what TEXT, bucket INTEGER, start INTEGER, amount INTEGER,
    PRIMARY KEY (who, what, bucket, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS written_to (
    who TEXT, recipient TEXT, last INTEGER, PRIMARY KEY (who, recipient)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` of `what` in any `window` seconds; this message has `asked`, and leaves `reserved` to others."""

    who: str  # a login, an alias, or RELAY
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
        return min(self.asked, self.free) if self.who == RELAY and self.window == MINUTE else self.asked


class Busy(Exception):
    """It cannot be counted without waiting: for another worker, or for the disk."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The file in one process. `patient` is for a thread, as it may wait; `quick` is for the event loop: it never
    waits for another worker, and leaves moving the log into the file (an fsync) to the other."""

    process: int
    patient: sqlite3.Connection
    quick: sqlite3.Connection

    @classmethod
    def at(cls, path: Path) -> Opened:
        """Makes the file where there is none. sqlite3.Error."""
        patient = _open(path)
        quick = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        quick.execute("PRAGMA synchronous = NORMAL")
        quick.execute("PRAGMA wal_autocheckpoint = 0")
        return cls(os.getpid(), patient, quick)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # whom people write to is nobody else's business
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last counts, not the file
    connection.executescript(SCHEMA)
    return connection


def begin(connection: sqlite3.Connection) -> None:
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


def known(connection: sqlite3.Connection, who: str, recipients: Iterable[str], since: int) -> int:
    query = "SELECT 1 FROM written_to WHERE who = ? AND recipient = ? AND last >= ?"
    return sum(connection.execute(query, (who, each, since)).fetchone() is not None for each in recipients)


def remember(connection: sqlite3.Connection, who: str, recipients: Iterable[str], now: int) -> None:
    connection.executemany(
        "INSERT INTO written_to VALUES (?, ?, ?) "
        "ON CONFLICT (who, recipient) DO UPDATE SET last = excluded.last",
        [(who, address, now) for address in recipients],
    )


def count(connection: sqlite3.Connection, limits: Iterable[Limit], now: int) -> None:
    places = {(limit.who, limit.what, BUCKETS[limit.window]): limit.asked for limit in limits}
    connection.executemany(
        "INSERT INTO spent VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (who, what, bucket, start) DO UPDATE SET amount = amount + excluded.amount",
        [(who, what, size, now - now % size, asked) for (who, what, size), asked in places.items() if asked],
    )


_WITHIN = "FROM spent WHERE who = ? AND what = ? AND bucket = ? AND start > ?"


def _within(limit: Limit, now: int) -> tuple[str, str, int, int]:
    """What of `spent` counts for the limit, for _WITHIN."""
    size = BUCKETS[limit.window]
    return limit.who, limit.what, size, now - limit.window - size


def used_of(connection: sqlite3.Connection, limits: Sequence[Limit], now: int) -> tuple[int, ...]:
    """What is used of each: asked in one, as each question has its price."""
    sums = ", ".join([f"(SELECT coalesce(sum(amount), 0) {_WITHIN})"] * len(limits))
    keys = [part for limit in limits for part in _within(limit, now)]
    found: tuple[int, ...] = connection.execute(f"SELECT {sums}", keys).fetchone()
    return found


def passes(connection: sqlite3.Connection, limit: Limit, used: int, now: int) -> int:
    """When there is room for what is asked: `now`, or when enough has left the window."""
    excess = used + limit.needed - limit.free
    if excess <= 0 or not limit.asked:
        return now
    query = f"SELECT start, amount {_WITHIN} ORDER BY start"
    with closing(connection.execute(query, _within(limit, now))) as oldest_first:
        for start, amount in oldest_first:
            excess -= amount
            if excess <= 0:
                return int(start) + BUCKETS[limit.window] + limit.window
    raise AssertionError("the sum is that of the rows, and what is asked fits alone")


def forget(connection: sqlite3.Connection, now: int) -> None:
    connection.execute("DELETE FROM written_to WHERE last < ?", (now - REMEMBERED,))
    for window, bucket in BUCKETS.items():
        connection.execute(
            "DELETE FROM spent WHERE bucket = ? AND start < ?", (bucket, now - window - bucket)
        )


def used(connection: sqlite3.Connection, now: int) -> dict[str, int]:
    """What of the relay's plan is used, in emails, by window ("a minute", "in 24 hours", "in 31 days")."""
    query = (
        "SELECT coalesce(sum(amount), 0) FROM spent WHERE who = ? AND what = ? AND bucket = ? AND start > ?"
    )
    spent = {}
    for window, size in BUCKETS.items():
        (spent[NAMES[window]],) = connection.execute(
            query, (RELAY, "emails", size, now - window - size)
        ).fetchone()
    return spent


def units(recipients: int, size: int) -> int:
    """What the relay counts as "emails": a recipient for each started 2 MB."""
    return recipients * max(1, -(-size // UNIT))
