"""How often a password may be tried: so many wrong ones for one link within an hour, whether it exists or not."""

from __future__ import annotations

from collections import OrderedDict, deque

MOST_WRONG = 10
_HOUR = 3600.0
_MOST_KNOWN = 5_000  # of links that somebody made up


class Tries:
    """In memory: a restart forgives. Links that exist are never pushed out by those that do not."""

    def __init__(self) -> None:
        self._real: dict[str, deque[float]] = {}
        self._made_up: OrderedDict[str, deque[float]] = OrderedDict()

    def allows(self, link: str, now: float) -> bool:
        times = self._real.get(link) or self._made_up.get(link) or deque()
        while times and times[0] < now - _HOUR:
            times.popleft()
        return len(times) < MOST_WRONG

    def wrong(self, link: str, now: float, *, real: bool) -> None:
        if real:
            self._real.setdefault(link, deque(maxlen=MOST_WRONG)).append(now)
            return
        self._made_up.setdefault(link, deque(maxlen=MOST_WRONG)).append(now)
        self._made_up.move_to_end(link)
        while len(self._made_up) > _MOST_KNOWN:
            self._made_up.popitem(last=False)

    def tidy(self, now: float) -> None:
        for link, times in list(self._real.items()):
            if not times or times[-1] < now - _HOUR:
                del self._real[link]
