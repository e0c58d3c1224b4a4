"""What has been copied, so that a copying that was broken off goes on where it was, and nothing is there twice.

One line for each message before it is written to the mailbox, and one after. What has only the first one may be there
or not: that is looked up in the mailbox, by the content, before it is written again.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

FOLDER = Path("/var/lib/todoku/import")


@dataclass(frozen=True, slots=True)
class Message:
    """A message at the source: numbers of one mailbox mean nothing in another, nor after UIDVALIDITY has changed."""

    folder: str
    validity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Begun:
    """Written, or about to be, into `target`, at the number `at_least` or later. `digest`: SHA-256 of the content."""

    target: str
    at_least: int
    digest: str


class BookError(Exception):
    """The book cannot be kept. The message says what to do."""


@dataclass(slots=True)
class Book:
    """The book of one copying, from one account of one server to one account here."""

    path: Path
    done: set[Message] = field(default_factory=set)
    begun: dict[Message, Begun] = field(default_factory=dict)
    _file: IO[bytes] | None = None

    @classmethod
    def open(cls, source: str, login: str, account: str, folder: Path = FOLDER) -> Book:
        """Read it, or begin it. Raises BookError."""
        name = hashlib.sha256(f"{source}\0{login}\0{account}".encode()).hexdigest()[:24]
        book = cls(folder / f"{name}.jsonl")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = book.path.read_bytes() if book.path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]  # the last line of a killed run may be half a line
            for line in whole.splitlines():
                book._read(json.loads(line))
            descriptor = os.open(book.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            book._file = os.fdopen(descriptor, "r+b")
            book._file.truncate(len(whole))
            book._file.seek(0, os.SEEK_END)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BookError(
                f"{book.path}, which says what has been copied, cannot be used: {error}. Without it messages would be "
                "copied twice: put it right, or remove it if nothing has been copied yet"
            ) from error
        return book

    def begin(self, message: Message, begun: Begun) -> None:
        """Before the message is written. Raises OSError."""
        self._write(message, {"into": begun.target, "at": begun.at_least, "sha256": begun.digest})
        self.begun[message] = begun

    def finish(self, message: Message) -> None:
        """After it was. Raises OSError."""
        self._write(message, {"done": True})
        self.begun.pop(message, None)
        self.done.add(message)

    def _read(self, line: dict[str, object]) -> None:
        message = Message(str(line["folder"]), int(str(line["validity"])), int(str(line["uid"])))
        if line.get("done"):
            self.begun.pop(message, None)
            self.done.add(message)
        else:
            self.begun[message] = Begun(str(line["into"]), int(str(line["at"])), str(line["sha256"]))

    def _write(self, message: Message, more: dict[str, object]) -> None:
        assert self._file is not None  # noqa: S101  (open() has opened it)
        line = {"folder": message.folder, "validity": message.validity, "uid": message.uid, **more}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
