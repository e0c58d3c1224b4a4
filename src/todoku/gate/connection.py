"""One connection from the mail server, on asyncio: reads in batches, one write per batch, waits where a rule waits.

While a rule waits, nothing more is read from this connection, so what is held stays within one read.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable
from typing import Protocol, cast

from todoku.gate.decision import Decision
from todoku.gate.events import Event
from todoku.gate.protocol import Decoder, ProtocolError
from todoku.gate.session import Session, Surroundings, Work

log = logging.getLogger("todoku.gate")

READ_SIZE = 64 * 1024
# One for all connections of the process: what was read is copied out of it before anything else is read.
_BUFFER = memoryview(bytearray(READ_SIZE))
# A rule's bound in seconds. Postfix waits 30 s for an answer to MAIL and RCPT (milter_command_timeout).
DEADLINE = 25.0


class Registry(Protocol):
    """Where connections are known while they are open."""

    stopping: bool

    def add(self, connection: Connection) -> None: ...
    def discard(self, connection: Connection) -> None: ...


class Connection(asyncio.BufferedProtocol):
    def __init__(self, surroundings: Surroundings, registry: Registry, deadline: float = DEADLINE) -> None:
        self._session = Session(surroundings)
        self._registry = registry
        self._deadline = deadline
        self._decoder = Decoder()
        self._waiting: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._registry.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            log.warning("the mail server's connection broke: %s", exc)
        if self._task is not None:
            self._task.cancel()
        self._transport = None
        self._session.close()
        self._registry.discard(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._waiting.extend(self._decoder.receive(_BUFFER[:nbytes]))
            self._proceed()
        except ProtocolError as error:
            log.error("the mail server broke the milter protocol, connection closed: %s", error)
            self._abort()
        except Exception:
            log.exception("the connection failed and is closed; the mail server tries again later")
            self._abort()

    def stop(self) -> None:
        """Closes at once, or when the message in progress has ended."""
        if self._task is None and not self._session.in_progress and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once whatever is in progress: the mail server keeps the message."""
        self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _proceed(self) -> None:
        """Handles what has arrived, up to where a rule waits."""
        out: list[bytes] = []
        while self._waiting and self._task is None:
            done = self._session.handle(self._waiting.popleft())
            out.append(done if isinstance(done, bytes) else self._drive(done))
        self._write(b"".join(out))
        if (
            self._transport is not None
            and self._task is None
            and (self._session.finished or self._registry.stopping)
        ):
            self.stop()

    def _drive(self, work: Work) -> bytes:
        try:
            awaited = next(work)
        except StopIteration as finished:
            return bytes(finished.value)
        if self._transport is not None:
            self._transport.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._wait(work, awaited))
        return b""

    async def _wait(self, work: Work, awaited: Awaitable[Decision]) -> None:
        try:
            out = await _finish(work, awaited, self._deadline)
            self._task = None
            self._write(out)
            if self._transport is not None:
                self._transport.resume_reading()
                self._proceed()
        except asyncio.CancelledError:
            work.close()
            raise
        except Exception:
            log.exception("the connection failed and is closed; the mail server tries again later")
            self._abort()

    def _write(self, out: bytes) -> None:
        when_told, self._session.when_told = self._session.when_told, None
        if not out or self._transport is None:
            return
        if when_told is not None and self._transport.get_write_buffer_size() == 0:
            out = out[self._write_at_once(out) :]
            if not out:
                when_told()
                return
        self._transport.write(out)

    def _write_at_once(self, out: bytes) -> int:
        """How much of it went. The transport may write later, and a killed gate would not have told what it noted."""
        assert self._transport is not None  # noqa: S101 - for the type
        try:
            return os.write(self._transport.get_extra_info("socket").fileno(), out)
        except BlockingIOError:
            return 0
        except OSError as problem:
            log.warning("the mail server's connection broke: %s", problem)
            self._abort()
            return 0


async def _finish(work: Work, awaited: Awaitable[Decision], deadline: float) -> bytes:
    """Drives the rest of the work; a rule past its deadline gets TimeoutError like any failure of its own."""
    try:
        while True:
            try:
                async with asyncio.timeout(deadline):
                    decision = await awaited
            except Exception as error:
                awaited = work.throw(error)
            else:
                awaited = work.send(decision)
    except StopIteration as finished:
        return bytes(finished.value)
