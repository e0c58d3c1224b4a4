"""How much may be sent: per login, and of the relay's plan.

Every window slides (60 seconds, 24 hours, 31 days), so that no calendar minute, day or month of the relay's can
have more. A message is counted as a whole or not at all (`spent`). The relay's unit is one recipient per started 2 MB
(Oracle's page "Email Delivery service capabilities and limits").
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from todoku.gate import spent
from todoku.gate.decision import HoldBack, Refuse, Verdict
from todoku.gate.spent import DAY, FILE, MINUTE, MONTH, NAMES, RELAY, REMEMBERED, Busy, Limit, Opened, units
from todoku.settings import Settings

_AT_ONCE = 200  # messages counted by `spend_at_once`, between which `spend` has to be asked once
_FORGET_EVERY = 3600  # seconds
_NEAR = 80  # percent of a limit of a day or a month at which it is said to be near
_SAY_AGAIN = 600.0  # seconds; who is told has a longer memory


@dataclass(frozen=True, slots=True)
class Spender:
    """Whose limits count besides the relay's plan. `reserves`: has to leave the reserved share to others."""

    name: str | None  # a login, a device's address, an alias; None: nobody's
    is_alias: bool = False
    reserves: bool = False


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
        return f"{self.most:,} {self.what} {NAMES[self.window]}"


@dataclass(frozen=True, slots=True)
class Granted:
    """How many may be sent now; if that is not all that was asked, from when on there may be more, and why."""

    count: int
    until: int = 0  # seconds since 1970
    words: str = ""


Tell = Callable[[Reached], None]


class Limits:
    """Opened lazily, in each process that uses it."""

    def __init__(self, settings: Settings, path: Path = FILE) -> None:
        self._gate = settings.gate
        self._plan = settings.relay.plan
        self._path = path
        self._opened: Opened | None = None
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
        spent.begin(connection)
        try:
            limits = self._plan_limits(asked, reserves=True)
            used_up = spent.used_of(connection, limits, second)
            used, tightest = min(zip(used_up, limits, strict=True), key=lambda each: each[1].free - each[0])
            room = tightest.free - used
            count = max(0, min(asked, room))
            spent.count(connection, self._plan_limits(count, reserves=True), second)
            until = 0
            if count < asked:
                one = replace(tightest, asked=1)
                until = spent.passes(connection, one, used + count, second) if tightest.free else second + DAY
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return Granted(
            count, until, f"the plan of the relay has {tightest.free:,} emails {NAMES[tightest.window]}"
        )

    def give_back(self, count: int, now: float) -> None:
        """What was granted and is not sent. Busy, sqlite3.Error."""
        connection = self._open().patient
        spent.begin(connection)
        try:
            spent.count(connection, self._plan_limits(-count, reserves=True), int(now))
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
        spent.begin(connection)
        try:
            limits = self._plan_limits(units(len(everyone), size), reserves=spender.reserves)
            name = spender.name
            if name is not None and spender.is_alias:
                limits += self._alias_limits(name, len(everyone))
            elif name is not None:
                known = spent.known(connection, name, everyone, second - REMEMBERED)
                limits += self._own_limits(name, len(everyone), len(everyone) - known)
            verdict, reached = _verdict(connection, limits, second)
            if verdict is None:
                spent.count(connection, limits, second)
                if name is not None and not spender.is_alias:
                    spent.remember(connection, name, everyone, second)
            if second - self._purged > _FORGET_EVERY:
                spent.forget(connection, second)
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

    def _alias_limits(self, alias: str, recipients: int) -> tuple[Limit, ...]:
        most = self._gate.forwarded_per_day
        return (Limit(f"the alias {alias}", "forwarded recipients", DAY, most, recipients),)

    def _own_limits(self, login: str, recipients: int, new: int) -> tuple[Limit, ...]:
        gate = self._gate
        return (
            Limit(login, "recipients", MINUTE, gate.recipients_per_minute, recipients),
            Limit(login, "recipients", DAY, gate.recipients_per_day, recipients),
            Limit(login, "new recipients", DAY, gate.new_recipients_per_day, new),
        )

    def _plan_limits(self, emails: int, *, reserves: bool) -> tuple[Limit, ...]:
        plan, share = self._plan, self._gate.reserved_share if reserves else 0
        windows = ((MINUTE, plan.per_minute), (DAY, plan.per_day), (MONTH, plan.per_month))
        return tuple(
            Limit(RELAY, "emails", window, most, emails, most * share // 100) for window, most in windows
        )

    def _open(self) -> Opened:
        if self._opened is None or self._opened.process != os.getpid():
            self._opened = Opened.at(self._path)
        return self._opened


def _verdict(
    connection: sqlite3.Connection, limits: Sequence[Limit], now: int
) -> tuple[Verdict | None, list[Reached]]:
    """The refusal of the limit that takes longest to pass; and those that are used up by it, or nearly."""
    worst: tuple[int, Limit] | None = None
    near: list[Reached] = []
    for limit, used in zip(limits, spent.used_of(connection, limits, now), strict=True):
        if limit.needed > limit.free:
            return _never(limit), []
        until = spent.passes(connection, limit, used, now)
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


def _never(limit: Limit) -> Refuse:
    return Refuse(
        550,
        "5.5.3",
        f"This message counts as {limit.asked:,} {limit.what}, and {_whose(limit)} has {limit.free:,} "
        f"{NAMES[limit.window]}{_for_whom(limit)}: send it to fewer recipients at a time{_how(limit)}",
    )


def _later(until: int, limit: Limit) -> HoldBack:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(until))
    return HoldBack(
        451,
        "4.7.1",
        f"{_whose(limit)} has {limit.free:,} {limit.what} {NAMES[limit.window]}{_for_whom(limit)}, and they are "
        f"used up: this message can be sent from {at} on{_how(limit)}",
    )


def _for_whom(limit: Limit) -> str:
    return " for bulk and forwarded mail (gate.reserved_share)" if limit.reserved else ""


def _whose(limit: Limit) -> str:
    return "the plan of the relay" if limit.who == RELAY else limit.who


def _how(limit: Limit) -> str:
    keys = {MINUTE: "per_minute", DAY: "per_day", MONTH: "per_month"}
    if limit.who == RELAY:
        return f" (relay.plan.{keys[limit.window]} in the settings)"
    name = "forwarded" if limit.what == "forwarded recipients" else limit.what
    return f" (gate.{name.replace(' ', '_')}_{keys[limit.window]} in the settings)"
