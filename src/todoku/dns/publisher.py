"""What every way of publishing records has in common: it can look, and it can replace one record set.

A replacement says what was there when it was decided upon. A publisher refuses to carry it out when something
else is there by now: two people, or a person and a program, change one zone without knowing of each other.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from todoku.dns.text import presentation


@dataclass(frozen=True, slots=True)
class Published:
    """One record as a publisher has it."""

    name: str
    type: str
    value: str
    ttl: int
    raw: str = ""  # as the publisher itself writes it: what it wants to hear when the record is to go
    handle: str = ""  # how the publisher calls it


@dataclass(frozen=True, slots=True)
class Found:
    """What is at one name: the records of the type asked for, and which other types there are."""

    records: tuple[Published, ...] = ()
    others: frozenset[str] = frozenset()

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(record.value for record in self.records)


@dataclass(frozen=True, slots=True)
class Replacement:
    """The values of one name and type, before and after; those that stay are not touched."""

    name: str
    type: str
    before: tuple[Published, ...]
    after: tuple[str, ...]
    ttl: int

    @property
    def remove(self) -> tuple[Published, ...]:
        return tuple(record for record in self.before if record.value not in self.after)

    @property
    def add(self) -> tuple[str, ...]:
        there = {record.value for record in self.before}
        return tuple(value for value in self.after if value not in there)

    @property
    def common_ttl(self) -> int:
        """All records of a set have one TTL (RFC 2181 5.2): that of the records that stay, if any do."""
        stay = [record for record in self.before if record.value in self.after]
        return stay[0].ttl if stay and stay[0].ttl else self.ttl

    def describe(self) -> str:
        """The change, one line for each record."""
        lines = [f"- {self.name} {self.type} {presentation(self.type, r.value)}" for r in self.remove]
        lines += [f"+ {self.name} {self.type} {presentation(self.type, value)}" for value in self.add]
        return "\n".join(lines)


class PublisherFailed(Exception):
    """The publisher could not be asked, or refused. The message says what was tried, found, and what to do."""


class ChangedMeanwhile(PublisherFailed):
    """Somebody else changed the same records since they were looked at; nothing was done."""

    def __init__(self, name: str, type_: str) -> None:
        super().__init__(
            f"the {type_} records of {name} were changed by somebody else since they were looked at; nothing was "
            "done. Run it again: it starts from what is there now"
        )


class Publisher(ABC):
    """A way to publish. All methods raise PublisherFailed."""

    by_hand: ClassVar[bool] = False  # a person publishes; `apply` raises ByHand

    @abstractmethod
    def look(self, zone: str, name: str, type_: str) -> Found:
        """What is published at `name`."""

    @abstractmethod
    def apply(self, zone: str, replacement: Replacement) -> None:
        """Carry out the replacement, or nothing of it. Raises ChangedMeanwhile."""

    @abstractmethod
    def content(self, zone: str) -> tuple[Published, ...] | None:
        """Every record of the zone but DNSSEC's own; None when it cannot be told."""

    def size(self, zone: str) -> int | None:
        """How many record sets the zone has; None when it cannot be told."""
        content = self.content(zone)
        return None if content is None else len({(record.name, record.type) for record in content})

    @abstractmethod
    def zone_of(self, name: str) -> str | None:
        """The zone that `name` is published in, where the publisher knows; None to ask the DNS."""


@dataclass
class Listing:
    """Whole zones as listed by a provider, remembered for a moment: thirty resources ask at the same time, and
    providers allow only so many questions a minute."""

    fetch: Callable[[str], tuple[Published, ...]]
    fresh: float = 3.0  # seconds
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, tuple[float, tuple[Published, ...]]] = field(default_factory=dict)
    _locks: dict[str, threading.RLock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def lock(self, zone: str) -> threading.RLock:
        """Held while the zone is listed or changed: one at a time."""
        with self._guard:
            return self._locks.setdefault(zone, threading.RLock())

    def records(self, zone: str) -> tuple[Published, ...]:
        with self.lock(zone):
            when, records = self._known.get(zone, (float("-inf"), ()))
            if self.clock() - when > self.fresh:
                records = self.fetch(zone)
                self._known[zone] = (self.clock(), records)
            return records

    def forget(self, zone: str) -> None:
        with self.lock(zone):
            self._known.pop(zone, None)

    def found(self, zone: str, name: str, type_: str) -> Found:
        here = [record for record in self.records(zone) if record.name == name]
        return Found(
            tuple(record for record in here if record.type == type_),
            frozenset(record.type for record in here if record.type != type_),
        )
