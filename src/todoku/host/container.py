"""The container: its places, its first process, and its logs.

The root is read-only. What has to survive is on one volume, below /var/lib/todoku, the queue and the logs included
(links in the image lead there). What follows from the settings is in memory and written anew at each start by
`todoku apply --host-only`, upon what the packages brought, of which the image keeps a copy.

The first process collects every orphan, as an init does: Postfix and Dovecot would otherwise take dead processes for
living ones.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

STATE = Path("/var/lib/todoku")
SKELETON = Path("/usr/lib/todoku/skeleton")
IN_MEMORY = (
    *("/etc/postfix", "/etc/dovecot", "/etc/supervisor/conf.d"),
    *("/var/lib/postfix", "/var/lib/dovecot", "/run", "/tmp"),  # noqa: S108 - a mount of the container's own
)
LOGS = (STATE / "log/mail.log", STATE / "log/dovecot.log")
LARGEST_LOG = 20_000_000  # bytes
KEPT_LOGS = 4
_ORDERLY = 50.0  # seconds for all programs to end; compose.yaml waits a little longer


class NotPrepared(Exception):
    """The container was not started as it has to be. The message says what to change."""


def prepare(root: Path = Path("/"), skeleton: Path = SKELETON) -> None:
    """Fill the places that are empty at each start. Raises NotPrepared."""
    for place in (*IN_MEMORY, STATE):
        real = root / str(place).lstrip("/")
        if not _writable(real):
            how = "the volume" if place == STATE else f"--tmpfs {place}"
            raise NotPrepared(
                f"{place} is missing or cannot be written: start the container with {how} as "
                "deploy/container/compose.yaml does"
            )
        kept = skeleton / str(place).lstrip("/")
        if kept.is_dir():
            _copy_what_is_missing(kept, real)
    for name, mode in (("log", 0o755), ("tls", 0o755), ("tmp", 0o1777)):
        folder = root / str(STATE).lstrip("/") / name
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)


def _writable(folder: Path) -> bool:
    probe = folder / ".todoku-can-write"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _copy_what_is_missing(source: Path, target: Path) -> None:
    """With owners and modes: Postfix insists on them. What is there already is of this start: left as it is."""
    _as_is(source, target)
    for entry in sorted(source.rglob("*")):
        copy = target / entry.relative_to(source)
        if os.path.lexists(copy):
            continue
        if entry.is_symlink():
            copy.symlink_to(entry.readlink())
        elif entry.is_dir():
            copy.mkdir()
            _as_is(entry, copy)
        else:
            shutil.copyfile(entry, copy)
            _as_is(entry, copy)


def _as_is(source: Path, target: Path) -> None:
    found = source.stat()
    os.chown(target, found.st_uid, found.st_gid)
    target.chmod(found.st_mode & 0o7777)


def rotate(
    run: Callable[[Sequence[str]], object], logs: Sequence[Path] = LOGS, largest: int = LARGEST_LOG
) -> tuple[Path, ...]:
    """Put logs aside that have grown too large, and have their writers begin new ones; which ones those were."""
    grown = tuple(log for log in logs if log.exists() and log.stat().st_size > largest)
    for log in grown:
        for number in range(KEPT_LOGS - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.rename(log.with_name(f"{log.name}.{number + 1}"))
        log.rename(log.with_name(f"{log.name}.1"))
        log.touch(mode=0o640)
    for command in (("postfix", "reload"), ("doveadm", "log", "reopen")) if grown else ():
        run(command)
    return grown


@dataclass(slots=True)
class Init:
    """The first process. `run` returns the container's exit code."""

    config: Path
    say: Callable[[str], None]
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _told_to_stop: bool = False
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # ends a sleep
        self._start("supervisord", ["/usr/bin/supervisord", "-n", "-c", "/etc/supervisor/supervisord.conf"])
        socket = Path("/run/supervisor.sock")
        while not socket.exists():
            if not self._runs("supervisord") or self._told_to_stop:
                return self._end(1, "supervisord did not start")
            time.sleep(0.02)
        apply = self._start(
            "apply", [sys.argv[0], "--config", str(self.config), "apply", "--host-only", "--yes"]
        )
        while self._runs("apply") and not self._told_to_stop:
            time.sleep(0.1)
            self._collect()
        if self._told_to_stop:
            return self._end(0, "told to stop")
        if apply.returncode != 0:
            return self._end(1, "the settings could not be put into force, see above")
        self.say(f"takes mail, {time.monotonic() - self._began:.1f} s after the start")
        # For `docker logs`; the files stay the truth. supervisord keeps what the programs say themselves.
        own = _said_by_programs()
        self._start(
            "logs", ["tail", "--quiet", "--lines=0", "--follow=name", "--retry", *map(str, (*LOGS, *own))]
        )
        return self._until_told()

    def _until_told(self) -> int:
        looked = time.monotonic()
        while not self._told_to_stop:
            time.sleep(1.0)
            self._collect()
            if not self._runs("supervisord"):
                return self._end(1, "supervisord ended")
            if time.monotonic() - looked > 60.0:
                looked = time.monotonic()
                rotate(lambda command: subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return self._end(0, "told to stop")

    def _end(self, code: int, why: str) -> int:
        self.say(f"stops: {why}")
        if code:
            self._show_last_words()
        for name, patience in (("apply", 5.0), ("supervisord", _ORDERLY), ("logs", 1.0)):
            child = self._children.get(name)
            if child is None or not self._runs(name):
                continue
            child.terminate()
            until = time.monotonic() + patience
            while self._runs(name) and time.monotonic() < until:
                time.sleep(0.05)
                self._collect()
            if self._runs(name):
                child.kill()
        self.say("stopped; what waits is kept in the queue")
        return code

    def _show_last_words(self) -> None:
        for file in _said_by_programs():
            lines = file.read_text(errors="replace").splitlines()[-10:]
            print("\n".join(f"{file.name.partition('-stdout')[0]}: {line}" for line in lines), flush=True)

    def _start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        # Whoever started the container may want to be told when it is ready; that is not for every program in it.
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
        self._children[name] = child
        return child

    def _runs(self, name: str) -> bool:
        self._collect()
        return name in self._children and self._children[name].returncode is None

    def _collect(self) -> None:
        """Every process that has ended: ours, and the orphans of others."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                for child in self._children.values():
                    if child.pid == pid:
                        child.returncode = os.waitstatus_to_exitcode(status)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_stop = True


def _said_by_programs() -> list[Path]:
    """What each program wrote to its streams: supervisord makes a new file at each of its starts."""
    return sorted(Path("/tmp").glob("*-stdout---supervisor-*.log"))  # noqa: S108 - the container's own
