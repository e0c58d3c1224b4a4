"""How many emails the relay has taken from us in the last day and month, as the log says: whatever left the queue
counts, also what the gate had nothing to say about.

Windows slide, as those of the gate do (`gate.limits`), so that no calendar day of the relay's can have more. What left
is counted in buckets, each of which counts until all of it has left the window.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

DAY, MONTH = 24 * 3600, 31 * 24 * 3600
UNIT = 2_000_000  # bytes: an "email" of the plan is one recipient times each started 2 MB
_BUCKETS = {DAY: 600, MONTH: 7200}  # seconds, by window


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
                made.amounts[window][start] = made.amounts[window].get(start, 0) + amount
        for window, size in _BUCKETS.items():
            amounts = made.amounts[window]
            made.amounts[window] = {
                start: amount for start, amount in amounts.items() if start + size + window > latest
            }
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
