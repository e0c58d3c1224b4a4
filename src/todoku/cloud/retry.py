"""Trying again, with bounds: only what may pass, a few times, with growing pauses.

What creates something is treated apart: when the answer is lost it may have been done. So it is looked for
before it is tried again, and nothing is made twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from todoku.cloud.errors import CloudError, Trouble

T = TypeVar("T")

_UNTIL_SHOWN = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is tried. Pauses double from `first`, up to `longest`, each shortened by chance."""

    tries: int = 7
    first: float = 0.5  # seconds
    longest: float = 20.0
    total: float = 90.0  # no new try begins after this
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)

    def repeat(self, call: Callable[[], T], may: Callable[[CloudError], bool] = lambda _error: True) -> T:
        """The result of `call`, tried again after errors that pass and that `may` says yes to."""
        began = self.clock()
        for number in range(self.tries):
            try:
                return call()
            except CloudError as error:
                pause = self._pause(number, error)
                over = number + 1 == self.tries or self.clock() - began + pause > self.total
                if over or not error.passes or not may(error):
                    raise
            self.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def create(self, call: Callable[[], T], find: Callable[[], T | None]) -> T:
        """The result of `call`, which makes something; `find` looks whether it is there by now.

        A 409 may be the answer to our own lost request, or to somebody else's: then what is there counts.
        """
        lost = False

        def once() -> T:
            nonlocal lost
            try:
                return call()
            except CloudError as error:
                if error.trouble not in (Trouble.UNSURE, Trouble.CONFLICT):
                    raise
                there = self.repeat(find)
                if there is None and lost and error.trouble is Trouble.CONFLICT:
                    # Ours, for sure; Oracle's lists may take a while to show what was written.
                    self.wait(lambda: self.repeat(find) is not None, _UNTIL_SHOWN, 1.0)
                    there = self.repeat(find)
                if there is None:
                    lost = lost or error.trouble is Trouble.UNSURE
                    raise
                return there

        return self.repeat(once)

    def delete(self, call: Callable[[], None], find: Callable[[], object | None]) -> None:
        """Delete something; that it is gone already is fine. `find` tells whether it is still there."""

        def once() -> None:
            try:
                call()
            except CloudError as error:
                if error.trouble not in (Trouble.UNSURE, Trouble.DENIED, Trouble.CONFLICT):
                    raise
                if self.repeat(find) is not None:
                    raise

        self.repeat(once)

    def wait(self, done: Callable[[], bool], bound: float, pause: float) -> bool:
        """Whether `done` came true within `bound` seconds, asked soon at first, then every `pause` seconds."""
        end = self.clock() + bound
        step = min(0.2, pause)
        while not done():
            if self.clock() + step > end:
                return False
            self.sleep(step)
            step = min(2 * step, pause)
        return True

    def _pause(self, number: int, error: CloudError) -> float:
        if error.retry_after is not None:
            return error.retry_after
        whole = min(self.first * 2.0**number, self.longest)
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 - so that many do not come back at once
