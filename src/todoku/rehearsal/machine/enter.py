"""Starts a process in namespaces of its own and tells it what to build there.

    this process ── a guardian ── PID 1 of the world (init.py) ── the work: prepare a layer, or play the rehearsal

Each of them dies with its parent (PR_SET_PDEATHSIG), and the namespaces with PID 1: so whatever happens to
this process, even kill -9, no process, mount or namespace stays behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from todoku.rehearsal.machine import syscalls

_PATIENCE = 3  # seconds for the world to end by itself after Ctrl-C


@dataclass(frozen=True, slots=True)
class Ended:
    """How the work in the namespaces ended; `pid` is the world's PID 1 when it was asked to go on living."""

    code: int
    pid: int | None


def run(task: Mapping[str, Any], *, network: bool, keep: bool = False) -> Ended:
    """Run `task` (see init.py) in new namespaces, with our standard streams, and wait until its work is done."""
    task_read, task_write = os.pipe()
    status_read, status_write = os.pipe()
    guardian = os.fork()
    if guardian == 0:
        os.close(task_write)
        os.close(status_read)
        _guard(task_read, status_write, network=network, keep=keep)
    os.close(task_read)
    os.close(status_write)
    with os.fdopen(task_write, "w") as pipe:
        json.dump(task, pipe)
    return _wait(guardian, status_read)


def _guard(task: int, status: int, *, network: bool, keep: bool) -> NoReturn:
    """In the child: make the namespaces, start PID 1 in them, and end when it ends, with its exit code."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if keep:
            os.setsid()
        else:
            syscalls.die_with_parent()
        syscalls.new_namespaces(network=not network)
        first = os.fork()
        if first == 0:
            syscalls.die_with_parent()
            for fd in (task, status):
                os.set_inheritable(fd, True)
            os.execv(  # noqa: S606
                sys.executable,
                [sys.executable, "-m", "todoku.rehearsal.machine.init", str(task), str(status)],
            )
        # Nobody may have to wait for a pipe or a terminal that only we still hold.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(task)
        os.close(status)
        code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    except OSError as error:
        print(f"The world could not be built: {error}", file=sys.stderr)
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _wait(guardian: int, status: int) -> Ended:
    with os.fdopen(status) as pipe:
        try:
            said = pipe.read()  # ends when the work is done, or with the last process that could say so
        except KeyboardInterrupt:
            _end(guardian)
            raise
    answer = json.loads(said) if said else {"code": 1, "stays": False}
    if answer["stays"]:
        return Ended(answer["code"], _child_of(guardian))
    code = os.waitstatus_to_exitcode(os.waitpid(guardian, 0)[1])
    return Ended(answer["code"] if said else max(code, 1), None)


def _end(guardian: int) -> None:
    """Give the world a moment to end by itself (it has heard Ctrl-C too), then end it."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if os.waitpid(guardian, os.WNOHANG)[0]:
            return
        time.sleep(0.05)
    os.kill(guardian, signal.SIGKILL)
    os.waitpid(guardian, 0)


def _child_of(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def raise_on_terminate() -> None:
    """Let SIGTERM and SIGHUP end this process like Ctrl-C does: with everything cleaned up on the way."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
