"""A second message made of one that came in: handed to Postfix like any other mail of this machine.

By SMTP at a port that answers this machine only (master.cf), and not by sendmail(1), which needs its set-group-id
bit, while the gate runs without a way to more rights. The gate's own rules for what leaves are asked there, so a
copy that may not leave is refused while its original still can be.

Handed over once: what Postfix has taken is noted, by a digest of the whole of it, so that a sender that has to send
the original again (something later failed, or the gate was killed) does not cause a second copy. Who hands over may
be killed before Postfix's "250" is read. So the worker that Postfix asks about the copy notes that it has answered:
from then on Postfix takes the copy whatever becomes of the gate, and before, it cannot have taken it. What is left is
the moment between that answer and its note, two system calls, in which a killed gate doubles a copy; and a killed
gate loses one if Postfix, in the same milliseconds, fails to store it for a reason of its own and is not restarted.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import smtplib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from todoku.gate import passage
from todoku.gate.message import READ_PIECE
from todoku.settings import ports

SERVER = (ports.LOOPBACK, ports.FORWARD)
NOTES = Path("/var/lib/todoku/gate/forwarded")
POSTFIX = Path("/var/spool/postfix/pid/master.pid")  # written when Postfix is started
_REMEMBERED = 5 * 86400  # seconds: as long as mail servers try again
_SECONDS = 40  # for one answer; Postfix waits 120 for the gate
_LOOK_EVERY = 3600.0
_UNSETTLED = 3.0  # seconds, until what becomes of a copy can be seen
UNDER_WAY = (
    "under-way"  # the folder of those that wait for what becomes of their copy; few, as it is looked through
)
_NAME = re.compile(r"([0-9a-f]{64})\.\d+\.\d+")

log = logging.getLogger("todoku.gate")


class NotTaken(Exception):
    """Postfix did not take the copy. `for_good`: it never will; the message is what it said."""

    def __init__(self, words: str, *, for_good: bool = False) -> None:
        super().__init__(words)
        self.for_good = for_good


@dataclass(frozen=True, slots=True)
class Copy:
    """`key`: what makes it the same copy when the original comes again."""

    key: bytes
    sender: str
    recipients: tuple[str, ...]
    content: bytes


Inject = Callable[[Copy], None]


def hand_over(copy: Copy, server: tuple[str, int] = SERVER) -> None:
    """Give it to Postfix, for all recipients or none. Raises NotTaken."""
    content = re.sub(rb"\r?\n", b"\r\n", copy.content)
    with _conversation(copy.sender, copy.recipients, content.isascii(), server) as smtp:
        _expect(smtp.data(content))


def hand_over_file(
    path: Path, sender: str, recipients: Sequence[str], server: tuple[str, int] = SERVER
) -> None:
    """The same with what is in a file, its lines ending with CRLF, without reading it into memory. Raises NotTaken."""
    with path.open("rb") as file, _conversation(sender, recipients, False, server) as smtp:
        _expect(smtp.docmd("DATA"), 3)
        while lines := file.readlines(READ_PIECE):
            smtp.send(b"".join(b"." + line if line.startswith(b".") else line for line in lines))
        smtp.send(b".\r\n")
        _expect(smtp.getreply())


@contextmanager
def _conversation(
    sender: str, recipients: Sequence[str], is_ascii: bool, server: tuple[str, int]
) -> Iterator[smtplib.SMTP]:
    try:
        with smtplib.SMTP(*server, local_hostname="localhost", timeout=_SECONDS) as smtp:
            smtp.ehlo_or_helo_if_needed()
            options = [] if is_ascii or not smtp.has_extn("8bitmime") else ["BODY=8BITMIME"]
            _expect(smtp.mail(sender, options))
            for recipient in recipients:
                _expect(smtp.rcpt(recipient))
            yield smtp
    except smtplib.SMTPResponseException as problem:
        _expect((problem.smtp_code, _octets(problem.smtp_error)))
        raise NotTaken(str(problem)) from problem
    except (OSError, smtplib.SMTPException) as problem:
        raise NotTaken(f"{server[0]}:{server[1]}: {problem}") from problem


def _expect(reply: tuple[int, bytes], kind: int = 2) -> None:
    code, said = reply
    if code // 100 != kind:
        words = " ".join(said.decode("utf-8", "replace").split())
        raise NotTaken(words, for_good=code // 100 == 5)


def _octets(said: bytes | str) -> bytes:
    return said.encode() if isinstance(said, str) else said


def answered(under_way: str, notes: Path = NOTES) -> None:
    """Postfix has been told that the copy of that note passes, and takes it, even if who hands it over is killed."""
    if name := _NAME.fullmatch(under_way):
        with suppress(FileNotFoundError):  # Postfix and who handed it over were faster
            (notes / UNDER_WAY / under_way).rename(notes / f"{name[1]}.answered")


def _postfix_began() -> float:
    """When Postfix was started, in seconds since 1970; in the future when that is not known."""
    try:
        return POSTFIX.stat().st_mtime
    except OSError:
        return float("inf")


class Injector:
    """Blocks while Postfix takes the copy: to be called in a thread."""

    def __init__(
        self,
        notes: Path = NOTES,
        hand_over: Inject = hand_over,
        clock: Callable[[], float] = time.time,
        postfix_began: Callable[[], float] = _postfix_began,
    ) -> None:
        self._notes = notes
        self._hand_over = hand_over
        self._clock = clock
        self._postfix_began = postfix_began
        self._swept = float("-inf")

    def __call__(self, copy: Copy) -> None:
        """Raises NotTaken."""
        try:
            (self._notes / UNDER_WAY).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            note = self._notes / hashlib.sha256(copy.key).hexdigest()
            answered = note.with_name(f"{note.name}.answered")
            if note.exists() or self._was_answered(answered):
                return
            if self._is_under_way(note):
                raise NotTaken("the copy is just being handed over")
            # What the note needs of the disk is there before anything is handed over.
            under_way = self._notes / UNDER_WAY / f"{note.name}.{os.getpid()}.{threading.get_ident()}"
            under_way.touch(mode=0o600)
        except OSError as problem:
            raise NotTaken(str(problem)) from problem
        try:
            named = f"{passage.NOTE}: {under_way.name}\r\n".encode()
            self._hand_over(replace(copy, content=named + copy.content))
            _keep(under_way, answered, note)
        except NotTaken:
            answered.unlink(missing_ok=True)
            raise
        finally:
            under_way.unlink(missing_ok=True)

    def _is_under_way(self, note: Path) -> bool:
        """Whether somebody hands it over, or was killed so shortly ago that Postfix may still be busy with it."""
        since = self._clock() - _UNSETTLED
        for other in (self._notes / UNDER_WAY).glob(f"{note.name}.*"):
            with suppress(FileNotFoundError):
                if other.stat().st_mtime > since:
                    return True
        return False

    def _was_answered(self, answered: Path) -> bool:
        """Whether it passed, and Postfix had the time to take it: not when it was stopped since, as by a power cut."""
        try:
            return answered.stat().st_mtime > self._postfix_began()
        except FileNotFoundError:
            return False

    def _sweep(self) -> None:
        now = self._clock()
        if now - self._swept < _LOOK_EVERY:
            return
        self._swept = now
        for note in (*self._notes.iterdir(), *(self._notes / UNDER_WAY).iterdir()):
            with suppress(FileNotFoundError):  # another worker was faster
                if note.is_file() and now - note.stat().st_mtime > _REMEMBERED:
                    note.unlink()


def _keep(under_way: Path, answered: Path, note: Path) -> None:
    """The copy is on its way whatever happens here: a failure must not have its original sent again."""
    try:
        with suppress(FileNotFoundError):
            under_way.rename(note)
            return
        answered.rename(note)
    except OSError:
        log.exception("a copy was handed over, and that cannot be noted in %s", note.parent)
