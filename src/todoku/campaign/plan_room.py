"""The relay's plan, for bulk mail: not only what was taken in (the gate's counters), but also what leaves.

Mail that was taken in yesterday, while the relay was away, leaves today: the gate's counters have forgotten it by then,
and the relay has not counted it yet. So what has left Postfix' queue, which the agent says in a file, and what has been
sent from here, which is kept in another one for the agent, are added up (`delivery.left`). Bulk mail gives way: what
waits in the queue leaves at its own pace, and this waits for the minutes and days that have room for both.

What is sent is written down before it is, so a process that is killed has rather counted too much. The file is read
and written under a lock: there may be several senders on a machine.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from todoku.delivery import left as leaving
from todoku.delivery.left import DAY, MINUTE, MONTH, Left, kept_free
from todoku.gate import limits
from todoku.gate.limits import Granted
from todoku.gate.spent import FILE, NAMES
from todoku.settings import Settings

log = logging.getLogger("todoku.campaign")

_UNHEARD = 2.0  # seconds until the agent has read and said what leaves the queue


class PlanRoom(limits.Limits):
    """`Limits`, of which `grant` also keeps to what leaves. `queue` and `bulk` are the folders of `delivery.left`."""

    def __init__(
        self,
        settings: Settings,
        path: Path = FILE,
        queue: Path = leaving.FOLDER,
        bulk: Path = leaving.BULK,
    ) -> None:
        super().__init__(settings, path)
        self._queue, self._bulk = queue, bulk
        plan, share = settings.relay.plan, settings.gate.reserved_share
        self._per_minute = plan.per_minute
        self._windows = [
            (MINUTE, plan.per_minute - plan.per_minute * share // 100),
            *(
                (window, min(most - most * share // 100, most - kept_free(plan, most)))
                for window, most in ((DAY, plan.per_day), (MONTH, plan.per_month))
            ),
        ]
        self._unread = ""

    def grant(self, asked: int, now: float) -> Granted:
        """Raises OSError, besides what `Limits.grant` does; then nothing is counted."""
        granted = super().grant(asked, now)
        if not granted.count:
            return granted
        count = 0
        try:
            with self._locked():
                ours, queue = self._read(self._bulk, now), self._read(self._queue, now)
                room = self._room(ours.plus(_leaving_now(queue, self._per_minute, now)), now)
                count = min(granted.count, room.count)
                if count:
                    leaving.say(ours.with_more([(now, count)]), self._bulk)
        except BaseException:
            super().give_back(granted.count, now)
            raise
        if count < granted.count:
            super().give_back(granted.count - count, now)
        return Granted(count, granted.until, granted.words) if count == granted.count else room

    def give_back(self, count: int, now: float) -> None:
        """Raises OSError, besides what `Limits.give_back` does."""
        super().give_back(count, now)
        with self._locked():
            leaving.say(self._read(self._bulk, now).with_more([(now, -count)]), self._bulk)

    def _room(self, left: Left, now: float) -> Granted:
        """How many may leave now; the window that has the least room says when there is more."""
        window, most = min(self._windows, key=lambda each: each[1] - left.used(each[0], now))
        count = max(0, most - left.used(window, now))
        until = int(left.room_from(window, most, now)) if most else int(now) + DAY
        return Granted(count, until, f"the relay has taken {most:,} emails {NAMES[window]}")

    def _read(self, folder: Path, now: float) -> Left:
        """What cannot be understood is nothing, and told once: the gate's counters are kept to in any case."""
        try:
            return leaving.read(folder, now)
        except ValueError as error:
            if str(error) != self._unread:
                log.error("what has left cannot be read: %s", error)
            self._unread = str(error)
            return Left()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        number = os.open(self._bulk / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            yield
        finally:
            os.close(number)


def _leaving_now(queue: Left, per_minute: int, now: float) -> Left:
    """What has left the queue; while it is leaving, with what has left since the agent said so."""
    if not queue.used(MINUTE, now):
        return queue
    return queue.with_more([(now, math.ceil(per_minute * _UNHEARD / 60))])
