"""Asks clamd over its unix socket whether a message carries malware: streamed, within a deadline, over sessions
that are kept for the next message.

One scan at a time in a session, so a session that fails takes nothing else with it. A kept session may be gone
(clamd was restarted, or closes what is idle), which shows at the first use: then, and only then, the scan is begun
once more in a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from todoku.gate import clamd
from todoku.gate.clamd import ClamdError, Verdict

SOCKET = Path("/run/clamav/clamd.ctl")
DEADLINE = 20.0  # seconds for one message, waiting for its turn included; a rule has 25
AT_ONCE = 5  # scans in one worker; clamd itself has 10 threads
_KEPT = 20.0  # seconds that a session may rest; clamd closes it after 30 (IdleTimeout)
_READ = 4096


class Scanner:
    """clamd at a socket. Made before the fork, connected in the worker; for one event loop."""

    def __init__(self, path: Path = SOCKET, deadline: float = DEADLINE) -> None:
        self._path = path
        self._deadline = deadline
        self._idle: list[_Session] = []
        self._turns: asyncio.Semaphore | None = None

    async def scan(self, pieces: Callable[[], Iterable[bytes]]) -> Verdict:
        """The verdict on what `pieces()` are together. Raises ClamdError, also when there is no answer in time."""
        if self._turns is None:
            self._turns = asyncio.Semaphore(AT_ONCE)
        try:
            async with asyncio.timeout(self._deadline):
                async with self._turns:
                    return await self._scan(pieces)
        except TimeoutError:
            raise ClamdError(f"no answer within {self._deadline:g} s") from None
        except (OSError, EOFError) as problem:
            raise ClamdError(f"{self._path}: {problem or type(problem).__name__}") from problem

    async def _scan(self, pieces: Callable[[], Iterable[bytes]]) -> Verdict:
        while session := self._kept():
            with suppress(OSError, EOFError):
                return await self._within(session, pieces)
        return await self._within(await _Session.begin(self._path), pieces)

    async def _within(self, session: _Session, pieces: Callable[[], Iterable[bytes]]) -> Verdict:
        """A session that did not come to a verdict is given up: nobody knows what it would say next."""
        try:
            verdict = await session.scan(pieces())
        except BaseException:
            session.close()
            raise
        if isinstance(verdict, clamd.TooLarge):  # clamd ends the session itself
            session.close()
        else:
            self._idle.append(session)
        return verdict

    def _kept(self) -> _Session | None:
        """The session used last; those that have rested too long are closed."""
        now = time.monotonic()
        for session in [each for each in self._idle if now - each.used > _KEPT]:
            self._idle.remove(session)
            session.close()
        return self._idle.pop() if self._idle else None


class _Session:
    """One connection in clamd's IDSESSION."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._replies = clamd.Replies()
        self._number = 0
        self.used = time.monotonic()

    @classmethod
    async def begin(cls, path: Path) -> _Session:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(clamd.BEGIN_SESSION)
        return cls(reader, writer)

    async def scan(self, pieces: Iterable[bytes]) -> Verdict:
        """OSError or EOFError when the connection breaks."""
        self._number += 1
        answer = asyncio.ensure_future(self._reply())
        try:
            for octets in clamd.stream(pieces):
                self._writer.write(octets)
                await self._writer.drain()
                if answer.done():  # clamd has had enough
                    break
            verdict = clamd.verdict(await answer, self._number)
        except OSError:
            # It may have said why before it closed the connection.
            with suppress(OSError, EOFError):
                return clamd.verdict(await answer, self._number)
            raise
        finally:
            answer.cancel()
        self.used = time.monotonic()
        return verdict

    async def _reply(self) -> bytes:
        while octets := await self._reader.read(_READ):
            if replies := self._replies.receive(octets):
                return replies[0]
        raise EOFError("clamd closed the connection without an answer")

    def close(self) -> None:
        self._writer.close()
