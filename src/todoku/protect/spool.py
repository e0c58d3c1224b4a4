"""Copies that wait on the disk for the mail server: complete and synchronised before the original is accepted.

A *job* is all copies of one message, a folder: made under a name that begins with a dot, in force from when it is
renamed. A copy is done when its file is gone. `marks` are made where a copy passes the gate again, before Postfix hears
that it does, and hold the queue ID that it has there: without one, Postfix cannot have the copy; with one, it can be
asked (kill -9 of anybody in between). `done` remembers jobs, for a sender that sends the original again because the
answer to it was lost.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

REMEMBERED = 5 * 86400  # seconds: as long as mail servers try again
_LEFT_BEHIND = 3600  # seconds after which an unfinished draft is nobody's any more


@dataclass(frozen=True, slots=True)
class Copy:
    """`number` within its job; `octets` of its file."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    octets: int


class Spool:
    """The folder, made at the first use. OSError where the disk is full or the folder is not ours."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outgoing, self.done, self.marks = root / "outgoing", root / "done", root / "marks"

    def draft(self, job: str) -> Draft:
        for folder in (self.root, self.outgoing, self.done, self.marks):
            folder.mkdir(mode=0o700, exist_ok=True)
        return Draft(self, job)

    def knows(self, job: str) -> bool:
        """Whether that job is in force or was done."""
        return (self.outgoing / job).exists() or (self.done / job).exists()

    def jobs(self) -> list[Job]:
        """Those in force, the oldest first."""
        with suppress(FileNotFoundError):
            found = [path for path in self.outgoing.iterdir() if not path.name.startswith(".")]
            return [Job(self, path) for path in sorted(found, key=_age)]
        return []

    def mark(self, copy: str, queue_id: str) -> bool:
        """Note that the copy with that id passes now, with the id that Postfix has for it; False when it has before."""
        beside = self.marks / f".{copy}.{secrets.token_hex(4)}"
        try:
            with beside.open("x") as file:
                file.write(queue_id)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, self.marks / copy)  # never there without what is in it
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        _synchronise(self.marks)
        return True

    def tidy(self, now: float) -> None:
        """Forget what nobody asks for any more."""
        for folder, most in (
            (self.done, REMEMBERED),
            (self.outgoing, _LEFT_BEHIND),
            (self.marks, 2 * REMEMBERED),
        ):
            for path in folder.iterdir() if folder.exists() else ():
                if (folder is not self.outgoing or path.name.startswith(".")) and now - _age(path) > most:
                    with suppress(FileNotFoundError):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


class Draft:
    """A job that is being made. Ends with `commit` or `discard`."""

    def __init__(self, spool: Spool, job: str) -> None:
        self.job = job
        self._spool = spool
        self._folder = spool.outgoing / f".{job}.{secrets.token_hex(4)}"
        self._folder.mkdir(mode=0o700)
        self._copies: list[Copy] = []

    def copy_id(self) -> str:
        """Of the copy that is added next."""
        return f"{self.job}.{len(self._copies)}"

    def add(self, sender: str, recipients: tuple[str, ...], pieces: Iterable[bytes]) -> int:
        """Its size in bytes."""
        number = len(self._copies)
        with (self._folder / f"{number}.eml").open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            octets = file.tell()
        self._copies.append(Copy(number, sender, recipients, octets))
        return octets

    def seal(self, told: str) -> None:
        """`told` is whom a copy that is refused is told to. All is on the disk after it."""
        described = {"told": told, "made": time.time(), "copies": [asdict(each) for each in self._copies]}
        with (self._folder / "job.json").open("x") as file:
            json.dump(described, file)
            file.flush()
            os.fsync(file.fileno())
        _synchronise(self._folder)

    def commit(self) -> Job:
        """Puts it in force; where the same job is already, that one stays."""
        place = self._spool.outgoing / self.job
        if self._spool.knows(self.job):
            self.discard()
            return Job(self._spool, place)
        try:
            self._folder.rename(place)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self.discard()
        _synchronise(self._spool.outgoing)
        return Job(self._spool, place)

    def discard(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class Job:
    """One in force, or done meanwhile."""

    def __init__(self, spool: Spool, place: Path) -> None:
        self._spool = spool
        self.place = place
        self.id = place.name

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Whether nobody else works on it; nobody else will while this lasts."""
        try:
            descriptor = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def read(self) -> tuple[str, float, list[Copy]]:
        """Whom to tell, when it was made, and its copies. ValueError when it cannot be read."""
        described = json.loads((self.place / "job.json").read_text())
        copies = [Copy(**{**each, "recipients": tuple(each["recipients"])}) for each in described["copies"]]
        return described["told"], described["made"], copies

    def content(self, copy: Copy) -> Path:
        return self.place / f"{copy.number}.eml"

    def notice(self, copy: Copy) -> Path:
        """What its sender is told, where the copy was refused for good: it goes instead."""
        return self.place / f"{copy.number}.notice"

    def write_notice(self, copy: Copy, content: bytes) -> None:
        beside = self.place / f".{copy.number}.notice"
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self.notice(copy))
        _synchronise(self.place)

    def marked(self, copy: str) -> str | None:
        """The queue ID that the copy passed with; None: it has not passed."""
        try:
            return (self._spool.marks / copy).read_text("ascii", "replace")
        except FileNotFoundError:
            return None

    def unmark(self, copy: str) -> None:
        (self._spool.marks / copy).unlink(missing_ok=True)

    def finished(self, copy: Copy) -> None:
        self.content(copy).unlink(missing_ok=True)
        self.notice(copy).unlink(missing_ok=True)
        _synchronise(self.place)

    def close(self, copies: list[Copy]) -> None:
        """All are done."""
        (self._spool.done / self.id).touch(mode=0o600)
        _synchronise(self._spool.done)
        gone = self.place.with_name(f".{self.id}.{secrets.token_hex(4)}")
        self.place.rename(gone)  # whole, or not at all: killed in between, half a job could not be read
        shutil.rmtree(gone, ignore_errors=True)
        for copy in copies:
            for kind in ("", "n"):
                self.unmark(f"{self.id}.{copy.number}{kind}")


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
