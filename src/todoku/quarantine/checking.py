"""A held message, looked into with the passwords that its addressee gave: the verdict on all that its archives hold."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from todoku.gate.clamd import ClamdError, Infected, TooLarge
from todoku.protect import locked_zip
from todoku.protect.held import Held
from todoku.protect.mime import TooComplex
from todoku.quarantine.archive import Began, CannotOpen, Event, TooMuch, WrongPassword
from todoku.quarantine.scanning import Begin, Session
from todoku.quarantine.unpacker import Unpacker

log = logging.getLogger("todoku.quarantine")

SECONDS = 300.0  # for all of a message
_MOST_ARCHIVES = 50  # in a message
Outcome = Literal["clean", "wrong", "malware", "too-much", "broken", "not-supported", "later"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` is the signature of a malware; else it is for the log."""

    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class Checker:
    """Blocks. `begin` opens a session with clamd."""

    unpacker: Unpacker
    begin: Begin = Session

    def check(self, held: Held, passwords: Sequence[str]) -> Verdict:
        """Clean where every archive opened to its end, and clamd has seen everything and found nothing."""
        candidates = _octets(passwords)
        until = time.monotonic() + SECONDS
        try:
            found = list(_archives(held))
            if not found:
                return Verdict("broken", "no archive is left in it")
            for raw in found:
                verdict = self._archive(raw, candidates, until)
                if verdict.outcome != "clean":
                    return verdict
        except (ClamdError, OSError) as problem:
            return Verdict("later", str(problem))
        except TooMuch as problem:
            return Verdict("too-much", str(problem))
        except TooComplex as problem:
            return Verdict("broken", str(problem))
        return Verdict("clean")

    def _archive(self, raw: bytes, candidates: Sequence[bytes], until: float) -> Verdict:
        verdict = self._tried(raw, candidates, until)
        # The old encryption takes one of 256 wrong passwords for right, and the next is not tried then.
        for one in candidates if verdict.outcome == "wrong" and len(candidates) > 1 else ():
            verdict = self._tried(raw, [one], until)
            if verdict.outcome != "wrong":
                break
        return verdict

    def _tried(self, raw: bytes, candidates: Sequence[bytes], until: float) -> Verdict:
        session = self.begin()
        try:
            with os.fdopen(os.memfd_create("archive", os.MFD_CLOEXEC), "w+b") as file:
                file.write(raw)
                file.flush()
                return _scanned(session, self.unpacker.ask(file, candidates, _left(until)), until)
        except WrongPassword as problem:
            return Verdict("wrong", str(problem))
        except CannotOpen as problem:
            return Verdict(problem.word, str(problem))  # type: ignore[arg-type]
        finally:
            session.close()


def _scanned(session: Session, events: Iterator[Event], until: float) -> Verdict:
    """A verdict on a file counts once the archive was read to its end: before, a wrong password may have made it."""
    found: list[Infected] = []
    event = next(events, None)
    while event is not None:
        if isinstance(event, bytes):
            raise TypeError("a piece of no file")
        rest = _OneFile(events, until)
        verdict = session.scan(rest)
        event = rest.next
        if isinstance(verdict, Infected):
            found.append(verdict)
        elif isinstance(verdict, TooLarge):
            return Verdict("too-much", f"clamd gave up at its limit {verdict.limit}")
    return Verdict("malware", found[0].signature) if found else Verdict("clean")


class _OneFile:
    """The pieces up to the next file, which is `next` then."""

    def __init__(self, events: Iterator[Event], until: float) -> None:
        self._events = events
        self._until = until
        self.next: Began | None = None

    def __iter__(self) -> Iterator[bytes]:
        for event in self._events:
            _left(self._until)
            if isinstance(event, Began):
                self.next = event
                return
            yield event


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TooMuch("it took too long")
    return left


def _archives(held: Held) -> Iterator[bytes]:
    raw = held.content.read_bytes()
    head, _, body = raw.partition(b"\r\n\r\n")
    for number, (_, pieces) in enumerate(locked_zip.archives(head + b"\r\n", body)):
        if number >= _MOST_ARCHIVES:
            raise TooMuch("too many archives")
        yield b"".join(pieces)


def _octets(passwords: Sequence[str]) -> list[bytes]:
    """As UTF-8, and as Japanese Windows writes it."""
    found: dict[bytes, None] = {}
    for password in passwords:
        for charset in ("utf-8", "cp932"):
            try:
                found[password.encode(charset)] = None
            except UnicodeEncodeError:
                continue
    return list(found)
