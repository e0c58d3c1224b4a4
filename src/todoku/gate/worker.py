"""One worker process: accepts on the shared socket, one connection at a time, and serves what it accepted.

One at a time, so that a burst spreads over the workers instead of filling the first that wakes up.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from todoku.gate import courier
from todoku.gate.connection import Connection
from todoku.gate.context import Context
from todoku.gate.record import Records
from todoku.gate.rule import RuleSet
from todoku.gate.session import Surroundings

log = logging.getLogger("todoku.gate")

HEARTBEAT = 1.0  # seconds


class Worker:
    def __init__(
        self,
        listener: socket.socket,
        rules: RuleSet,
        load: Callable[[], Context],
        context: Context,
        spool: Path,
        grace: float,
    ) -> None:
        self._listener = listener
        self._load = load
        self._context = context
        self._surroundings = Surroundings(rules, lambda: self._context, spool, Records())
        self._grace = grace
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[object]] = set()
        self.stopping = False
        self._stop = asyncio.Event()
        self._idle = asyncio.Event()

    async def run(self, parent: int, heartbeat: Callable[[], None]) -> None:
        """Until TERM, or until the parent is gone (`parent` is the read end of a pipe that only it holds open)."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})
        loop.add_reader(parent, self._stop.set)
        loop.add_reader(self._listener, self._accept)
        beating = loop.create_task(_beat(heartbeat))
        carrying = loop.create_task(courier.keep_looking())
        await self._stop.wait()
        loop.remove_reader(parent)
        loop.remove_reader(self._listener)
        self._listener.close()
        await self._finish()
        beating.cancel()
        carrying.cancel()

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)

    def discard(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._idle.set()

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was faster, or the client is gone
        except OSError:
            log.exception("cannot accept a connection")
            time.sleep(0.05)  # out of file descriptors: let some be given back instead of spinning
            return
        connected.setblocking(False)
        loop = asyncio.get_running_loop()
        opening: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(lambda: Connection(self._surroundings, self), connected)
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    def _reload(self) -> None:
        try:
            self._context = self._load()
            log.info("settings reloaded")
        except Exception:
            log.exception("the new settings cannot be used; the old ones stay in force")

    async def _finish(self) -> None:
        """Lets messages in progress end, for `grace` seconds at most; the mail server keeps the others."""
        self.stopping = True
        if self._opening:
            await asyncio.wait(self._opening)
        for connection in list(self._connections):
            connection.stop()
        self._idle.clear()
        if self._connections:
            try:
                async with asyncio.timeout(self._grace):
                    await self._idle.wait()
            except TimeoutError:
                log.warning(
                    "%d messages in progress are given back to the mail server", len(self._connections)
                )
                for connection in list(self._connections):
                    connection.abort()
                await asyncio.sleep(0)


async def _beat(heartbeat: Callable[[], None]) -> None:
    while True:
        heartbeat()
        await asyncio.sleep(HEARTBEAT)


def work(make: Callable[[], Worker], parent: int, heartbeat: Callable[[], None]) -> None:
    """The life of a worker process, from fork to exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    gc.freeze()  # what the parent loaded stays shared
    # A message makes a few hundred objects and no cycles: looking for some after every 700 finds nothing.
    gc.set_threshold(50_000, 20, 20)
    code = 1
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(make, parent, heartbeat))
        code = 0
    except BaseException:
        log.exception("worker %d ends", os.getpid())
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)


async def _run(make: Callable[[], Worker], parent: int, heartbeat: Callable[[], None]) -> None:
    await make().run(parent, heartbeat)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; asyncio's own otherwise."""
    try:
        import uvloop  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
