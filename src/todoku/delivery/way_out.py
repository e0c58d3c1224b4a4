"""Mail waits in the queue once the relay's plan of a day or a month is nearly used up, so that the relay never has to
refuse it (455): the way out is shut, and opened again when there is room.

Postfix asks a small table (`/etc/postfix/main.cf`, way_out) when a message is about to be sent; what it says there
makes the message wait. This process may write that table, and nothing that it could say there does more than that.
Postfix reads it when it is told to, which only root can do; what has been waiting for its turn is asked about anew
then.

What bulk mail sends past the queue counts as well, and learns here what has left the queue (`delivery.left`).
Minutes are the business of Postfix' own pace (`host.postfix.pace`); bulk mail leaves room for it.

Nobody opens the way out while the agent does not run, which the service manager sees to. One that runs, or tries to,
and cannot read the ledger, opens it when the time has come that it was shut until: mail that leaves too early is
refused by the relay for now (455), and waits; mail that is never let out is lost.
"""

from __future__ import annotations

import logging
import math
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from todoku.delivery import left as leaving
from todoku.delivery.left import DAY, MONTH, Left, kept_free
from todoku.settings.outside import RelayPlan
from todoku.store import StoreError

log = logging.getLogger("todoku.agent")

FOLDER = Path("/var/lib/todoku/way-out")
TABLE = "table"  # in the folder
_UNTOLD = "untold"  # beside it: Postfix may not have read the table yet
_OUTSIDE = "outside"  # the key: whoever is not of our domains
_RETOLD = 60.0  # seconds by which a time may be off before the table is written anew
_SETTLES = 5.0  # seconds that Postfix has for beginning anew before waiting mail is tried
_NAMES = {DAY: "day", MONTH: "month"}


@dataclass(frozen=True, slots=True)
class Shut:
    """Why nothing leaves: the plan's `most` emails of a `window` ("day", "month") are used up, until then."""

    window: str
    most: int
    until: float

    def line(self) -> str:
        at = datetime.fromtimestamp(math.ceil(self.until), UTC).strftime("%Y-%m-%d %H:%M:%S")
        return f"{_OUTSIDE} {self.window} {self.most} {at}\n"

    @classmethod
    def of(cls, text: str) -> Shut | None:
        """What `line` made; None for anything else."""
        try:
            _, window, most, day, hour = text.split()
            until = datetime.fromisoformat(f"{day}T{hour}+00:00").timestamp()
            return cls(window, int(most), until)
        except ValueError:
            return None


def judge(left: Left, plan: RelayPlan, now: float) -> Shut | None:
    """Whether the way out has to be shut. What leaves at the plan's pace before it is shut is left free."""
    found = []
    for window, most in ((DAY, plan.per_day), (MONTH, plan.per_month)):
        free = kept_free(plan, most)
        if left.used(window, now) >= most - free:
            found.append(Shut(_NAMES[window], most, left.room_from(window, most - free, now)))
    return max(found, key=lambda each: each.until, default=None)


def flush() -> None:
    """What waits is tried at once (postqueue(1)), which everybody may ask for."""
    done = subprocess.run(["postqueue", "-f"], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(f"postqueue -f: {done.stderr.strip()}")


@dataclass(slots=True)
class WayOut:
    """Looks when called, often. `left` is what has left the queue; `reload` has Postfix read the table.

    Unless it `surely` does, the table is written once more some seconds later: a change that comes while a unit of
    systemd's is still busy with the one before goes unnoticed (systemd.path(5)).

    Raises OSError, `StoreError`.
    """

    left: Callable[[], Left]
    plan: RelayPlan
    reload: Callable[[], None]
    folder: Path = FOLDER
    bulk: Path = leaving.BULK
    told: Path = leaving.FOLDER  # not `folder`, which systemd watches
    clock: Callable[[], float] = time.time
    try_again: Callable[[], None] = flush
    surely: bool = True
    _once_more: float | None = field(default=None, init=False)
    _opened: float | None = field(default=None, init=False)
    _known: Left | None = field(default=None, init=False)
    _sent_in_bulk: Left = field(default_factory=Left, init=False)
    _nonsense: str = field(default="", init=False)

    def __call__(self) -> None:
        now = self.clock()
        try:
            left = self.left()
        except StoreError:
            open_when_due(self.reload, self.folder, now)
            raise
        self._keep_to(left, now)
        if left != self._known:
            leaving.say(left, self.told)
            self._known = left

    def in_all(self) -> Left:
        """What has left, bulk mail included; asked by another thread. Raises `StoreError`."""
        return self.left().plus(self._sent_in_bulk)

    def _keep_to(self, left: Left, now: float) -> None:
        wanted, known = judge(left.plus(self._in_bulk(now)), self.plan, now), said(self.folder)
        if not _same(wanted, known) or (self.folder / _UNTOLD).exists():
            _say(wanted, self.folder, self.reload)
            self._opened = now if wanted is None else None
            self._once_more = None if self.surely else now + _SETTLES
        elif self._once_more is not None and now >= self._once_more:
            _say(known, self.folder, self.reload)
            self._opened, self._once_more = now if known is None else None, None
        elif self._opened is not None and now >= self._opened + _SETTLES:
            self._opened = None
            self.try_again()

    def _in_bulk(self, now: float) -> Left:
        """What cannot be understood is told once, and what was known before stays."""
        try:
            self._sent_in_bulk, self._nonsense = leaving.read(self.bulk, now), ""
        except (OSError, ValueError) as error:
            if str(error) != self._nonsense:
                log.error("how much bulk mail has left cannot be read: %s", error)
            self._nonsense = str(error)
        return self._sent_in_bulk


def open_when_due(reload: Callable[[], None], folder: Path, now: float) -> None:
    """For one who does not know what has left. Raises OSError."""
    shut = said(folder)
    if (shut is not None and now >= shut.until) or (folder / _UNTOLD).exists():
        _say(None if shut is None or now >= shut.until else shut, folder, reload)


def _say(wanted: Shut | None, folder: Path, reload: Callable[[], None]) -> None:
    """Killed in between, it is said again."""
    (folder / _UNTOLD).touch()
    fresh = folder / f".{TABLE}.new"
    fresh.write_text(wanted.line() if wanted else "")
    fresh.chmod(0o644)
    fresh.rename(folder / TABLE)
    reload()
    (folder / _UNTOLD).unlink()
    if wanted is None:
        log.info("the relay's plan has room again: mail leaves")
    else:
        log.warning("the relay's plan is used up, and mail waits: %s", wanted.line().strip())


def said(folder: Path = FOLDER) -> Shut | None:
    """What the table says. OSError."""
    try:
        return Shut.of((folder / TABLE).read_text())
    except FileNotFoundError:
        return None


def _same(one: Shut | None, other: Shut | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.window, one.most) == (other.window, other.most) and abs(one.until - other.until) < _RETOLD
