"""Limits on guessing passwords: who guesses is locked out for a while, and nobody can have others locked out.

Dovecot asks before it checks a password, for IMAP and for Postfix alike, and tells afterwards how it went
(doc.dovecot.org, "Authentication policy"). What counts are different wrong passwords: a telephone that tries its old
one all day has guessed once. An account is locked for addresses from which nobody has logged in to it before, so nobody
can lock out people at their desks. Where they are themselves, it takes five times as many, and the lock is short.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeAlias

Key: TypeAlias = tuple[str, ...]

WINDOW = 900.0  # seconds in which wrong passwords add up


@dataclass(frozen=True, slots=True)
class Limit:
    """So many different wrong passwords within WINDOW, and then none for `lock` seconds."""

    most: int
    lock: float


LIMITS = {
    "account": Limit(10, 900.0),  # from wherever nobody has logged in to it before
    "address": Limit(20, 900.0),  # whichever accounts they are for
    "at home": Limit(50, 60.0),  # an account, from where its people have logged in before
}
_REMEMBERED = 90 * 86400.0  # seconds since the last log-in that an address is known for
_NEVER = float("-inf")
_MOST_KEYS = 20_000  # of each kind: an attacker has many addresses, and memory has an end


@dataclass(frozen=True, slots=True)
class Answer:
    """What Dovecot is told: go on, or not. `why` is for its log."""

    allowed: bool
    why: str = ""


class Guesses:
    """What was tried, and who is known. Safe to use from several threads."""

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = file, clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[Key, dict[str, float]] = OrderedDict()
        self._locked: OrderedDict[Key, float] = OrderedDict()
        self._known: OrderedDict[Key, float] = OrderedDict(_read(file))
        self._changed = False

    def allow(self, login: str, remote: str) -> Answer:
        """Whether somebody at `remote` may try a password of `login` now."""
        network = _network(remote)
        if network is None:
            return Answer(True)
        with self._lock:
            now = self._clock()
            for key in self._keys(login, network, now):
                until = self._locked.get(key, _NEVER)
                if until > now:
                    return Answer(False, f"too many wrong passwords ({key[0]}), for {until - now:.0f} s more")
        return Answer(True)

    def report(self, login: str, remote: str, password: str, *, success: bool) -> None:
        """How it went. `password` is Dovecot's truncated hash of it: enough to tell two of them apart."""
        network = _network(remote)
        if network is None:
            return
        with self._lock:
            now = self._clock()
            if success:
                self._remember(login, network, now)
                return
            for key in self._keys(login, network, now):
                self._count(key, f"{login}\0{password}", now)

    def save(self) -> None:
        """Keep who is known over a restart. Raises OSError."""
        with self._lock:
            if self._file is None or not self._changed:
                return
            self._changed = False
            text = json.dumps([[*key, when] for key, when in self._known.items()])
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(text)
        fresh.rename(self._file)

    def _keys(self, login: str, network: str, now: float) -> tuple[Key, ...]:
        if self._known.get((login, network), _NEVER) > now - _REMEMBERED:
            return (("at home", login, network),)
        return (("account", login), ("address", network))

    def _remember(self, login: str, network: str, now: float) -> None:
        if now - self._known.get((login, network), _NEVER) > 3600.0:
            self._changed = True  # not at every log-in: mail programs come by every minute
            self._known[login, network] = now
            self._known.move_to_end((login, network))
            _bound(self._known)
        # Wrong ones before the right one were somebody's own.
        self._wrong.pop(("at home", login, network), None)

    def _count(self, key: Key, tried: str, now: float) -> None:
        limit = LIMITS[key[0]]
        wrong = {each: when for each, when in self._wrong.pop(key, {}).items() if when > now - WINDOW}
        wrong[tried] = now
        if len(wrong) < limit.most:
            self._wrong[key] = wrong
            _bound(self._wrong)
            return
        self._locked.pop(key, None)
        self._locked[key] = now + limit.lock
        _bound(self._locked)


def _bound(held: OrderedDict[Key, Any]) -> None:
    while len(held) > _MOST_KEYS:
        held.popitem(last=False)


def _network(remote: str) -> str | None:
    """Whom an address stands for: itself, or with IPv6 its /64, of which one person has all. None: this machine."""
    try:
        address: IPv4Address | IPv6Address = ip_address(remote)
    except ValueError:
        return None  # a program on this machine has none
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    address = mapped or address
    if address.is_loopback:
        return None
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def _read(file: Path | None) -> dict[Key, float]:
    """Who was known. A file that cannot be understood is as good as none: people become known again."""
    try:
        rows = json.loads(file.read_text()) if file else []
        return {(str(login), str(network)): float(when) for login, network, when in rows}
    except (OSError, ValueError, TypeError):
        return {}
