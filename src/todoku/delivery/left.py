"""How many emails the relay has taken from us in the last minute, day and month: whatever left the queue, as the log
says, also what the gate had nothing to say about; and what the sender of bulk mail sends past the queue.

Windows slide, as those of the gate do (`gate.limits`), so that no calendar day of the relay's can have more. What left
is counted in buckets, each of which counts until all of it has left the window.

Each side knows its own, and reads what the other has said in a file: the agent in `FOLDER`, what bulk mail sends in
`BULK`. So there is one count of what leaves, though none of them writes what is the other's.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from todoku.settings.outside import RelayPlan

FOLDER = Path("/var/lib/todoku/ledger")  # the agent's; its group may read what is in it
BULK = Path("/var/lib/todoku/bulk-left")  # the sender of bulk mail's; the agent may read it
FILE = "left"  # in each of them
MINUTE, DAY, MONTH = 60, 24 * 3600, 31 * 24 * 3600
UNIT = 2_000_000  # bytes: an "email" of the plan is one recipient times each started 2 MB
_BUCKETS = {MINUTE: 1, DAY: 600, MONTH: 7200}  # seconds, by window
_REACTION = 4.0  # seconds at most from a line in the log to a way out that is shut
_LARGEST = 256 * 1024  # bytes of such a file
_MOST = 10**12  # emails in a bucket


def emails(size: int | None) -> int:
    """What one recipient of a message of `size` bytes counts as."""
    return max(1, -(-(size or 1) // UNIT))


@dataclass(slots=True)
class Left:
    """By window, and in it by the beginning of each bucket."""

    amounts: dict[int, dict[int, int]] = field(default_factory=lambda: {window: {} for window in _BUCKETS})

    @classmethod
    def of(cls, text: str) -> Left:
        """What `text` made. ValueError for anything else."""
        found = cls()
        try:
            for window, amounts in json.loads(text).items():
                found.amounts[int(window)] = {int(start): int(amount) for start, amount in amounts.items()}
        except (AttributeError, TypeError) as error:
            raise ValueError(text) from error
        return found

    def text(self) -> str:
        return json.dumps(self.amounts, separators=(",", ":"))

    def with_more(self, more: Iterable[tuple[float, int]]) -> Left:
        """The same and `more`: when, and how many emails. What is too old for any window is forgotten."""
        made = Left({window: dict(amounts) for window, amounts in self.amounts.items()})
        latest = 0
        for moment, amount in more:
            latest = max(latest, int(moment))
            for window, size in _BUCKETS.items():
                start = int(moment) - int(moment) % size
                # Less than nothing: what was counted before is given back.
                made.amounts[window][start] = max(0, made.amounts[window].get(start, 0) + amount)
        for window, size in _BUCKETS.items():
            amounts = made.amounts[window]
            made.amounts[window] = {
                start: amount for start, amount in amounts.items() if start + size + window > latest
            }
        return made

    def plus(self, other: Left) -> Left:
        """What left here and there."""
        made = Left({window: dict(amounts) for window, amounts in self.amounts.items()})
        for window in _BUCKETS:
            amounts = made.amounts[window]
            for start, amount in other.amounts[window].items():
                amounts[start] = amounts.get(start, 0) + amount
        return made

    def used(self, window: int, now: float) -> int:
        """Emails in the last `window` seconds."""
        size = _BUCKETS[window]
        return sum(amount for start, amount in self.amounts[window].items() if start + size + window > now)

    def room_from(self, window: int, most: int, now: float) -> float:
        """When less than `most` are in the window, if no more leave until then."""
        size, excess = _BUCKETS[window], self.used(window, now) - most
        for start, amount in sorted(self.amounts[window].items()):
            if start + size + window <= now:
                continue
            if excess < 0:
                break
            excess -= amount
            now = start + size + window
        return now


def kept_free(plan: RelayPlan, most: int) -> int:
    """What of a day's or a month's `most` may leave before the way out is seen to be shut: so much is left free."""
    return min(math.ceil(plan.per_minute * _REACTION / 60), most // 4)


def read(folder: Path, now: float) -> Left:
    """What the other side has said; nothing where it has said nothing. Its file is believed in nothing but its form:
    ValueError for one that cannot be. OSError."""
    try:
        number = os.open(folder / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Left()
    with open(number, "rb") as opened:  # noqa: PTH123 - a number, and not a path
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise ValueError(f"{folder / FILE} is no file")
        octets = opened.read(_LARGEST + 1)
    try:
        found = Left.of(octets.decode()) if len(octets) <= _LARGEST else None
    except (ValueError, OverflowError, RecursionError):
        found = None
    if found is None or not found.amounts.keys() == _BUCKETS.keys():
        raise ValueError(f"{folder / FILE} cannot be understood")
    if not all(0 <= amount <= _MOST for amounts in found.amounts.values() for amount in amounts.values()):
        raise ValueError(f"{folder / FILE} has numbers that cannot be")
    # What is yet to come was written while the clock was wrong.
    return Left(
        {
            window: {start: amount for start, amount in amounts.items() if 0 <= start <= now + DAY}
            for window, amounts in found.amounts.items()
        }
    )


def say(left: Left, folder: Path) -> None:
    """Puts the file in place, whole; for others to read, in a folder that says who may. OSError."""
    fresh = folder / f".{FILE}.new"
    fresh.write_text(left.text())
    fresh.chmod(0o644)
    fresh.rename(folder / FILE)
