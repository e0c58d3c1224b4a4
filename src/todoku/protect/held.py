"""Messages that are held: their password-protected ZIPs wait for the addressee's password (`incoming_zip`).

    messages/JOB/message.eml    the message as it would have been delivered
    messages/JOB/about.json     from whom, to whom, until when
    messages/JOB/N.state        what became of it for the Nth recipient; not there: it is held
    messages/JOB/N.passed       his copy has passed the gate on its way to him: the queue ID that it has
    messages/JOB/N.unsure       it has passed, and nobody heard whether Postfix took it: the gate is to find out
    messages/JOB/N.taken        Postfix took it
    messages/JOB/verdict        the malware that was found, for all of them

The gate makes a job, under a name that begins with a dot, and it is in force from when it is renamed. The service that
looks into ZIPs (`todoku.quarantine`) does the rest; only these two users can read it. As with any mailbox on this
machine, the message itself is not encrypted, so that the operator can hand it over without a password.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from todoku.protect.language import Language

ROOT = Path("/var/lib/todoku/quarantine")
MOST = 10_000  # messages
_JOB = re.compile(r"[0-9a-f]{40}")
_LEFT_BEHIND = 3600  # seconds after which an unfinished draft is nobody's any more

State = Literal["held", "releasing", "delivered", "dropped", "refused"]
FINAL: tuple[State, ...] = ("delivered", "dropped", "refused")


class Full(Exception):
    """As much is held as may be; the message says which limit."""


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a held message. `author` is header From as people read it, `files` the protected ZIPs, `octets`
    of the message, the times in seconds since 1970."""

    sender: str
    recipients: tuple[str, ...]
    author: str
    subject: str
    files: tuple[str, ...]
    language: Language
    made: float
    expires: float
    octets: int = 0


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the message for one recipient: `by` whom, `at` when, and `why` where that has to be said."""

    state: State = "held"
    by: str = ""
    at: float = 0.0
    why: str = ""


class Quarantine:
    """The folder. OSError where it is not there, not ours, or the disk is full."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.messages = root / "messages"

    def knows(self, job: str) -> bool:
        return (self.messages / job).exists()

    def hold(self, job: str, about: About, pieces: Iterable[bytes], most_octets: int) -> None:
        """It is on the disk when this returns. Raises Full; then, and at an OSError, nothing of it is left."""
        folder = self.messages / f".{job}.{secrets.token_hex(4)}"
        folder.mkdir(mode=0o770)
        try:
            room = most_octets - self._octets()
            octets = _write(folder / "message.eml", pieces, room)
            described = asdict(about) | {"octets": octets}
            _write(folder / "about.json", [json.dumps(described).encode()])
            folder.chmod(0o770)  # whatever the umask: the folder's group works in it
            _synchronise(folder)
            self._commit(folder, job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _synchronise(self.messages)

    def _commit(self, folder: Path, job: str) -> None:
        try:
            folder.rename(self.messages / job)
        except OSError as problem:
            if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(folder)  # the same was sent twice at the same time

    def _octets(self) -> int:
        """How many bytes are held. Raises Full."""
        octets = number = 0
        for entry in os.scandir(self.messages):
            number += 1
            with suppress(FileNotFoundError):
                octets += (Path(entry.path) / "message.eml").stat().st_size
        if number >= MOST:
            raise Full(f"{number:,} messages are held already")
        return octets

    def find(self, job: str) -> Held | None:
        if not _JOB.fullmatch(job):
            return None
        try:
            described = json.loads((self.messages / job / "about.json").read_bytes())
            lists = {name: tuple(described[name]) for name in ("recipients", "files")}
            return Held(self.messages / job, About(**{**described, **lists}))
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def all(self) -> Iterator[Held]:
        """Those in force, in no order."""
        for job in self.jobs():
            if found := self.find(job):
                yield found

    def jobs(self) -> list[str]:
        with suppress(FileNotFoundError):
            return [entry.name for entry in os.scandir(self.messages) if _JOB.fullmatch(entry.name)]
        return []

    def tidy(self, now: float) -> None:
        """Removes drafts that a gate which was killed left behind."""
        for entry in os.scandir(self.messages):
            with suppress(FileNotFoundError):
                if entry.name.startswith(".") and now - entry.stat().st_mtime > _LEFT_BEHIND:
                    shutil.rmtree(entry.path)


@dataclass(frozen=True, slots=True)
class Held:
    """One message, with what became of it."""

    place: Path
    about: About

    @property
    def id(self) -> str:
        return self.place.name

    @property
    def content(self) -> Path:
        return self.place / "message.eml"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Nobody else changes its state while this lasts."""
        descriptor = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def fate(self, number: int) -> Fate:
        """For that recipient."""
        try:
            return Fate(**json.loads((self.place / f"{number}.state").read_bytes()))
        except FileNotFoundError:
            return Fate("refused", why=self.malware) if self.malware else Fate()
        except (ValueError, TypeError):
            return Fate()

    def decide(self, number: int, fate: Fate) -> None:
        """From now on that is so, whatever happens. Once all is decided, the message itself is removed."""
        self._write(f"{number}.state", json.dumps(asdict(fate)).encode())
        if all(
            self.fate(each).state in ("delivered", "dropped") for each in range(len(self.about.recipients))
        ):
            self.content.unlink(missing_ok=True)

    @property
    def malware(self) -> str:
        """Its signature; empty where none was found."""
        return self._verdict()[0]

    @property
    def found_by(self) -> str:
        """Whose password it was found with."""
        return self._verdict()[1]

    def _verdict(self) -> tuple[str, str]:
        try:
            signature, _, who = (self.place / "verdict").read_text().partition("\n")
        except FileNotFoundError:
            return "", ""
        return signature, who

    def refuse(self, signature: str, who: str) -> None:
        """For all recipients who have not decided otherwise before; `who` gave the password."""
        self._write("verdict", f"{signature}\n{who}".encode())

    def mark(self, number: int, queue_id: str) -> bool:
        """Note that the copy of that recipient passes now, with the id that Postfix has for it; False when it has
        before."""
        beside = self.place / f".{number}.passed.{secrets.token_hex(4)}"
        try:
            _write(beside, [queue_id.encode()])
            os.link(beside, self.place / f"{number}.passed")  # never there without what is in it
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        _synchronise(self.place)
        return True

    def passed(self, number: int) -> str:
        """The queue ID that the copy of that recipient passed with; empty when it has not, or that is not known."""
        try:
            return (self.place / f"{number}.passed").read_text("ascii", "replace")
        except FileNotFoundError:
            return ""

    def unmark(self, number: int) -> None:
        """The copy of that recipient is to pass once more."""
        (self.place / f"{number}.passed").unlink(missing_ok=True)
        self.is_sure(number)

    def is_sure(self, number: int) -> None:
        """Whether Postfix took the copy of that recipient was found out."""
        (self.place / f"{number}.unsure").unlink(missing_ok=True)

    def has(self, note: str) -> bool:
        """Whether such a note was made."""
        return (self.place / note).exists()

    def note(self, note: str) -> None:
        self._write(note, b"")

    def remove(self) -> None:
        """It is over."""
        gone = self.place.with_name(f".{self.place.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            self.place.rename(gone)
            shutil.rmtree(gone)

    def _write(self, name: str, content: bytes) -> None:
        beside = self.place / f".{name}.{secrets.token_hex(4)}"
        _write(beside, [content])
        beside.rename(self.place / name)
        _synchronise(self.place)


def _write(path: Path, pieces: Iterable[bytes], most: int | None = None) -> int:
    """Its number of bytes. Raises Full when they are more than `most`."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o640)  # whatever the umask
        octets = 0
        for piece in pieces:
            octets += len(piece)
            if most is not None and octets > most:
                raise Full("the place for held messages is used up (protect.quarantine_size)")
            file.write(piece)
        file.flush()
        os.fsync(descriptor)
    return octets


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
