"""PID 1 of the world: builds the root, moves into it, starts the work, and collects every orphan, as the init
of a real machine does (Postfix and Dovecot would otherwise see dead processes as living ones).

Started by enter.py as `python -m todoku.rehearsal.machine.init TASK_FD STATUS_FD`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from todoku.rehearsal.machine import machine, prepare, root, syscalls


def main(task_fd: int, status_fd: int) -> int:
    with os.fdopen(task_fd) as pipe:
        task = json.load(pipe)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the work; we end when it does
    os.set_inheritable(status_fd, False)
    try:
        _build(task)
    except (OSError, machine.WorldImpossible) as error:
        print(f"The world could not be built: {error}", file=sys.stderr)
        return _end(status_fd, 1, stays=False)
    worker = os.fork()
    if worker == 0:
        _work(task, status_fd)
    code = _reap_until(worker)
    if not task.get("keep"):
        return _end(status_fd, code, stays=False)
    _end(status_fd, code, stays=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    _detach()
    while True:
        _reap_until(None)
        signal.pause()


def _build(task: dict[str, Any]) -> None:
    syscalls.make_private()
    resolver = _resolver()
    spec = root.RootSpec(
        lower=Path(task["lower"]),
        below=root.lower_file_systems(Path(task["lower"])),
        layer=_path(task.get("layer")),
        scratch=_path(task.get("scratch")),
        visible=tuple(Path(p) for p in task.get("visible", ())),
    )
    if task["role"] == "prepare":
        prepare.build(task, spec, resolver)
        return
    # Everything that is imported later has to come from the new root, where it may lie at the same place only.
    new_root = root.build(spec)
    syscalls.pivot_into(new_root)
    if task.get("checkout"):
        # A layer serves every checkout: only the world knows which one it was started from.
        prepare.CHECKOUT.symlink_to(task["checkout"])
    os.chdir(task["cwd"])
    socket.sethostname(task["hostname"])


def _resolver() -> str:
    """The text of the machine's resolv.conf: it may be a link into /run, which the new root has of its own."""
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""


def _work(task: dict[str, Any], status_fd: int) -> None:
    """In the forked child: do the work and leave, never returning into PID 1's code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(status_fd)
    code = 1
    try:
        if task["role"] == "play":
            _execute(task)
        code = prepare.work(task)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # the last frame of this process: said, and turned into its exit code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _execute(task: dict[str, Any]) -> None:
    """Become the Python of the new root, which need not be the one that we were started with."""
    said = os.memfd_create("task", 0)
    os.write(said, json.dumps(task).encode())
    os.lseek(said, 0, os.SEEK_SET)
    os.set_inheritable(said, True)
    python = task["python"]
    os.execv(python, [python, "-m", "todoku.rehearsal.play", str(said)])  # noqa: S606


def _reap_until(worker: int | None) -> int:
    """Collect ended processes: until `worker` ends (its exit code), or until nothing more has ended (None)."""
    while True:
        try:
            pid, status = os.waitpid(-1, 0 if worker else os.WNOHANG)
        except ChildProcessError:
            return 1
        if pid == 0:
            return 0
        if pid == worker:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _detach() -> None:
    """Let go of the terminal and of our caller's pipes, so that nobody waits for a world that goes on."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _end(status_fd: int, code: int, *, stays: bool) -> int:
    os.write(status_fd, json.dumps({"code": code, "stays": stays}).encode())
    os.close(status_fd)
    return code


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
