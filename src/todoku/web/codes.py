"""One-time codes, who has shown one, and how often anybody may try. In memory: a restart asks for new codes."""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network

DIGITS = 8
GOOD_FOR = 600.0  # seconds
SHOWN_FOR = 3600.0  # seconds that a session lasts
MOST_TRIES = 5  # of one code
_CODES_AN_HOUR = 5  # for one link
_WRONG_A_DAY = 30  # for one link
_HOUR, _DAY = 3600.0, 86400.0


@dataclass(slots=True)
class _Known:
    """Of one link."""

    code: str = ""
    expires: float = 0.0
    tries: int = 0
    made: deque[float] = field(default_factory=deque)
    wrong: deque[float] = field(default_factory=deque)


class Codes:
    """For links that exist only: what strangers invent takes no memory."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def new(self, link: str, now: float) -> str | None:
        """A new code, the only one from now on; None when there were too many."""
        known = self._known.setdefault(link, _Known())
        _forget(known.made, now - _HOUR)
        if len(known.made) >= _CODES_AN_HOUR:
            return None
        known.made.append(now)
        known.code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
        known.expires, known.tries = now + GOOD_FOR, 0
        return known.code

    def use(self, link: str, given: str, now: float) -> bool:
        """Whether that is the code. It is good once, and for few tries."""
        known = self._known.get(link)
        if known is None:
            return False
        _forget(known.wrong, now - _DAY)
        known.tries += 1
        good = (
            known.code
            and now < known.expires
            and known.tries <= MOST_TRIES
            and len(known.wrong) < _WRONG_A_DAY
        )
        if good and hmac.compare_digest(given.encode("utf-8", "replace"), known.code.encode()):
            known.code = ""
            return True
        known.wrong.append(now)
        return False

    def tidy(self, now: float) -> None:
        for link, known in list(self._known.items()):
            _forget(known.made, now - _HOUR)
            _forget(known.wrong, now - _DAY)
            if known.expires < now and not known.made and not known.wrong:
                del self._known[link]


class Sessions:
    """Cookies that say for which link a code was shown. Nobody else can make one, and each is for one link."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def new(self, link: str, now: float) -> str:
        until = str(int(now + SHOWN_FOR))
        return f"{until}.{self._mac(link, until)}"

    def holds(self, link: str, cookie: str, now: float) -> bool:
        until, _, mac = cookie.partition(".")
        if not until.isascii() or not until.isdigit() or len(until) > 12 or not mac.isascii():
            return False
        return int(until) > now and hmac.compare_digest(mac, self._mac(link, until))

    def _mac(self, link: str, until: str) -> str:
        return hmac.new(self._key, f"{link}.{until}".encode(), "sha256").hexdigest()


class Rate:
    """So many requests of one client in a minute, after a token bucket; a network of IPv6 (/64) is one client."""

    def __init__(self, a_minute: int, most_clients: int = 20_000) -> None:
        self._a_minute = a_minute
        self._most = most_clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        who = _client(address)
        left, at = self._left.pop(who, (float(self._a_minute), now))
        left = min(float(self._a_minute), left + (now - at) * self._a_minute / 60)
        allowed = left >= 1
        self._left[who] = (left - 1 if allowed else left, now)
        while len(self._left) > self._most:
            self._left.popitem(last=False)
        return allowed


def _client(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, 64), strict=False))
    return str(found)


def _forget(times: deque[float], before: float) -> None:
    while times and times[0] < before:
        times.popleft()
