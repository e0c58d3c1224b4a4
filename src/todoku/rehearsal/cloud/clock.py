"""The cloud's time: the real one, plus what the switchboard has advanced it by.

Advancing makes everything that exists older. So times are kept on this clock, and shown on that of the
clients, which does not jump: a key that was made an hour ago and has been aged by a day shows yesterday.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Seconds since 1970, and monotonic seconds, both ahead of the real ones by `offset`."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset

    def monotonic(self) -> float:
        """For the relay's windows."""
        return time.monotonic() + self.offset

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.offset += seconds

    def text(self, moment: float) -> str:
        """A moment of this clock as RFC 3339, on the clients' clock."""
        when = datetime.fromtimestamp(moment - self.offset, UTC)
        return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"
