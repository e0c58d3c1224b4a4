"""Who may send as whom, and which senders the relay has approved: two text files, always as they are now.

`sender_login` is what the directory exports for Postfix ("address login,login" or "@domain login,login", one per
line; a line of the address comes before one of its domain, and has all who may use it); `approved` is
written by `todoku apply`, one address or "@domain" per line. A file is looked at once a second at most, and read
when its time or size has changed. Nothing is held open, so a book may be made before a fork.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

SENDER_LOGIN = Path("/var/lib/todoku/directory/sender_login")
APPROVED = Path("/var/lib/todoku/gate/approved")
SUPPRESSED = Path("/var/lib/todoku/exchange/suppressed")
LOOK_EVERY = 1.0  # seconds


class Watched(Generic[T]):
    """What a text file says. `missing` while there is no such file."""

    def __init__(
        self,
        path: Path,
        read: Callable[[str], T],
        missing: T,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._read = read
        self._missing = missing
        self._clock = clock
        self._looked = float("-inf")
        self._version: tuple[int, int, int] | None = None
        self._now = missing

    @property
    def now(self) -> T:
        """OSError or UnicodeDecodeError when the file is there and cannot be read."""
        if self._clock() - self._looked >= LOOK_EVERY:
            self._look()
            self._looked = self._clock()
        return self._now

    def _look(self) -> None:
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version == self._version:
                return
            self._now = self._read(self._path.read_text("utf-8"))
        except FileNotFoundError:
            version, self._now = None, self._missing
        self._version = version


class SenderBook:
    """Which logins may send as an address."""

    def __init__(self, path: Path = SENDER_LOGIN, clock: Callable[[], float] = time.monotonic) -> None:
        self._watched = Watched[Mapping[str, frozenset[str]]](path, _sender_logins, {}, clock)

    def logins(self, address: str) -> frozenset[str]:
        """Who may send as `address`; "alice+shop@" is alice's too (Postfix's recipient_delimiter)."""
        book = self._watched.now
        address = address.lower()
        local, at, domain = address.rpartition("@")
        plain = local.partition("+")[0] + at + domain
        return book.get(address) or book.get(plain) or book.get(f"@{domain}") or frozenset()

    def addresses(self, login: str) -> list[str]:
        """What `login` may send as: its own name first, if that is an address; "@domain" for all of a domain."""
        found = [address for address, logins in self._watched.now.items() if login in logins]
        whole = {address for address in found if address.startswith("@")}
        kept = (
            address
            for address in found
            if address == login or address in whole or f"@{address.rpartition('@')[2]}" not in whole
        )
        return sorted(kept, key=lambda address: (address != login, address))


class ApprovedSenders:
    """The senders that the relay takes, as `todoku apply` last saw them."""

    def __init__(self, path: Path = APPROVED, clock: Callable[[], float] = time.monotonic) -> None:
        self._watched = Watched[frozenset[str] | None](path, _lines, None, clock)

    @property
    def now(self) -> frozenset[str] | None:
        """Addresses, and "@domain" for whole domains; None when it is not known."""
        return self._watched.now


class Suppressions:
    """To whom the relay sends nothing: address -> (reason, day), as the agent last wrote it; empty without."""

    def __init__(self, path: Path = SUPPRESSED, clock: Callable[[], float] = time.monotonic) -> None:
        self._watched = Watched[Mapping[str, tuple[str, str]]](path, _suppressed, {}, clock)

    @property
    def now(self) -> Mapping[str, tuple[str, str]]:
        return self._watched.now


def _suppressed(text: str) -> dict[str, tuple[str, str]]:
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0].lower(): (row[1], row[2]) for row in rows if len(row) == 3}


def _sender_logins(text: str) -> dict[str, frozenset[str]]:
    book: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        address, _, logins = line.replace("\t", " ", 1).partition(" ")
        if "@" in address:
            book[address.lower()] = frozenset(filter(None, (each.strip() for each in logins.split(","))))
    return book


def _lines(text: str) -> frozenset[str]:
    return frozenset(line.strip().lower() for line in text.splitlines() if line.strip() and line[0] != "#")
