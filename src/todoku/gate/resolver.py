"""DNS for the gate's rules: bounded in time and in number for each message, absolute names only.

An answer that does not exist is an empty one; only trouble (a timeout, a server failure) is an exception.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.resolver

QUESTION_SECONDS = 4.0  # for one question, all its servers and tries together
MOST_QUESTIONS = 200  # for one message: SPF may cost 110, each DKIM signature 1, and each DMARC tree walk 8
_CACHE = 10_000  # names


class DnsTrouble(Exception):
    """No answer could be had now. The message says to what."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was answered: TXT as the whole text's bytes, MX as "PREFERENCE HOST", everything else as text."""

    values: tuple[bytes, ...]
    exists: bool = True  # false: there is no such name (NXDOMAIN)


# name, type -> what there is. Raises DnsTrouble.
Lookup = Callable[[str, str], Found]


class System:
    """The resolvers of the system, or those named in the settings. Made at the first question, in the worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, ...], dns.resolver.Resolver] = {}

    def lookup(self, servers: tuple[str, ...], name: str, kind: str, seconds: float) -> Found:
        try:
            wanted = dns.name.from_text(name.rstrip(".") + ".")
            answer = self._resolver(servers).resolve(
                wanted, kind, search=False, lifetime=seconds, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return Found((), exists=False)
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, UnicodeError):
            return Found((), exists=False)  # it cannot exist
        except (dns.exception.DNSException, OSError) as problem:
            raise DnsTrouble(f"{kind} of {name}: {type(problem).__name__}") from problem
        return Found(tuple(_value(rdata) for rdata in answer.rrset or ()))

    def _resolver(self, servers: tuple[str, ...]) -> dns.resolver.Resolver:
        with self._lock:
            made = self._made.get(servers)
            if made is None:
                made = dns.resolver.Resolver(configure=not servers)
                if servers:
                    made.nameservers = list(servers)
                made.cache = dns.resolver.LRUCache(_CACHE)
                self._made[servers] = made
            return made


SYSTEM = System()


@dataclass
class Bounded:
    """Look-ups for one message: all of them together end before `deadline` (time.monotonic), and are not many."""

    ask: Callable[[str, str, float], Found]
    deadline: float
    most: int = MOST_QUESTIONS
    _known: dict[tuple[str, str], Found] = field(default_factory=dict)

    def __call__(self, name: str, kind: str) -> Found:
        key = (name.lower().rstrip("."), kind)
        found = self._known.get(key)
        if found is None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise DnsTrouble(f"{kind} of {name}: no time is left")
            if self.most <= 0:
                raise DnsTrouble(f"{kind} of {name}: too many questions for one message")
            self.most -= 1
            found = self._known[key] = self.ask(name, kind, min(left, QUESTION_SECONDS))
        return found


def _value(rdata: Any) -> bytes:
    if hasattr(rdata, "strings"):
        return b"".join(rdata.strings)
    text: str = rdata.to_text()
    return text.rstrip(".").encode()
