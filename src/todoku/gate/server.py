"""The parent process: binds the socket, keeps the workers alive, and passes on TERM and HUP.

Workers are forked and share the listening socket. One that dies, or that shows no sign of life, is replaced, at
once at first and then ever more slowly; what it held is answered 4xx by Postfix (milter_default_action =
tempfail). If the parent dies, the workers finish their messages and end.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from todoku.gate.context import Context
from todoku.gate.listener import listen
from todoku.gate.notify import notify, watchdog_interval
from todoku.gate.rule import RuleSet
from todoku.gate.worker import Worker, work

log = logging.getLogger("todoku.gate")

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
STUCK = 120.0  # seconds without a sign of life after which a worker is killed
LONGEST_DELAY = 30.0  # seconds between restarts of a worker that keeps dying
SPOOL = Path("/var/tmp")  # noqa: S108 - for files without a name; /tmp is often memory
HEALTHY = 10.0  # seconds after which a worker counts as started well


@dataclass(frozen=True, slots=True)
class Options:
    """`grace`: seconds that messages in progress get when the gate stops. `pid_file`: the parent's number; written
    anew whenever it has taken in the settings, so that its time says how old those are."""

    socket: Path
    workers: int = 2
    group: str | None = "postfix"
    spool: Path = SPOOL
    grace: float = 20.0
    pid_file: Path | None = None


@dataclass(slots=True)
class _Place:
    """One worker's place: who holds it, since when, and when the next may start."""

    number: int
    pid: int = 0
    since: float = 0.0
    delay: float = 0.0
    not_before: float = 0.0


@dataclass(slots=True)
class Supervisor:
    options: Options
    rules: RuleSet
    load: Callable[[], Context]
    _places: list[_Place] = field(default_factory=list)
    _context: Context = field(default_factory=Context)

    def run(self) -> int:
        """Until TERM or INT; the exit code. Raises CannotListen, and whatever the first `load` raises."""
        self._context = self.load()
        listener = listen(self.options.socket, self.options.group)
        inode = self.options.socket.stat().st_ino
        alive, held = os.pipe()  # the workers watch `alive`; it ends when the parent does
        beats = mmap.mmap(-1, 8 * self.options.workers)  # the last sign of life of each worker, shared
        self._places = [_Place(number) for number in range(self.options.workers)]
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

        def make() -> Worker:
            os.close(held)
            return Worker(
                listener, self.rules, self.load, self._context, self.options.spool, self.options.grace
            )

        try:
            self._fill(make, alive, beats)
            self._note()
            notify("READY=1", f"STATUS=listening on {self.options.socket}")
            log.info("listening on %s with %d workers", self.options.socket, self.options.workers)
            self._supervise(lambda: self._fill(make, alive, beats), beats)
        finally:
            notify("STOPPING=1")
            self._remove(inode)
            self._end(listener)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return 0

    def _supervise(self, fill: Callable[[], None], beats: mmap.mmap) -> None:
        interval = watchdog_interval()
        tick = min(1.0, interval or 1.0)
        while True:
            caught = signal.sigtimedwait(_SIGNALS, tick)
            number = caught.si_signo if caught else None
            if number in (signal.SIGTERM, signal.SIGINT):
                return
            if number == signal.SIGHUP:
                self._reload()
            self._reap()
            self._kill_stuck(beats)
            fill()
            if interval:
                notify("WATCHDOG=1")

    def _fill(self, make: Callable[[], Worker], alive: int, beats: mmap.mmap) -> None:
        """Starts a worker in every empty place whose delay has passed."""
        now = time.monotonic()
        for place in self._places:
            if place.pid or now < place.not_before:
                continue
            offset = 8 * place.number
            _mark(beats, offset)
            place.since = now
            place.pid = os.fork()
            if place.pid == 0:
                work(make, alive, partial(_mark, beats, offset))

    def _reap(self) -> None:
        for place in self._places:
            if not place.pid:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                now = time.monotonic()
                well = now - place.since >= HEALTHY
                place.delay = 0.0 if well else min(LONGEST_DELAY, place.delay * 2 or 0.5)
                place.not_before = now + (0.0 if well else place.delay)
                log.error(
                    "worker %d ended with %d; another starts in %.1f s",
                    pid,
                    os.waitstatus_to_exitcode(status),
                    place.not_before - now,
                )
                place.pid = 0

    def _kill_stuck(self, beats: mmap.mmap) -> None:
        for place in self._places:
            (last,) = struct.unpack_from("d", beats, 8 * place.number)
            if place.pid and time.monotonic() - last > STUCK:
                log.error("worker %d has shown no sign of life for %.0f s and is killed", place.pid, STUCK)
                os.kill(place.pid, signal.SIGKILL)

    def _reload(self) -> None:
        """Settings that cannot be used change nothing; else each worker loads them for its next message."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            self._context = self.load()
        except Exception:
            log.exception("the new settings cannot be used; the old ones stay in force")
        else:
            self._signal(signal.SIGHUP)
            self._note()
        notify("READY=1")

    def _signal(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)

    def _note(self) -> None:
        """Puts the pid file in place, whole: whoever reads it finds a number."""
        if self.options.pid_file is not None:
            fresh = self.options.pid_file.with_suffix(".new")
            fresh.write_text(f"{os.getpid()}\n")
            fresh.rename(self.options.pid_file)

    def _remove(self, inode: int) -> None:
        """Takes the socket away, unless another gate has put its own there."""
        path = self.options.socket
        if path.exists() and path.stat().st_ino == inode:
            path.unlink()

    def _end(self, listener: socket.socket) -> None:
        listener.close()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self.options.grace + 5
        while any(place.pid for place in self._places):
            for place in self._places:
                if place.pid and os.waitpid(place.pid, os.WNOHANG)[0]:
                    place.pid = 0
            if time.monotonic() > deadline:
                log.error("workers that do not end are killed")
                self._signal(signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)


def _mark(beats: mmap.mmap, offset: int) -> None:
    """A sign of life."""
    struct.pack_into("d", beats, offset, time.monotonic())


def serve(options: Options, rules: RuleSet, load: Callable[[], Context]) -> int:
    """Runs the gate in the foreground until TERM; the exit code."""
    return Supervisor(options, rules, load).run()
