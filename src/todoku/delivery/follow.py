"""Reads a log file to its end and goes on from there, so that every line is read once: through rotation by renaming
or by copying and truncating, over restarts of ours and of whoever writes, with half lines in between.

Where it stands is a `Position`: which file, how far, and a digest of what lies just before. By that digest a file is
known again after it was renamed, copied or compressed, and a truncated one is known not to be it. Clocks play no
part, except that rotated files are put in order by the time they were last written to.

What may get lost is what rotation loses itself: lines written between the copy and the truncation of
"copytruncate", and files that were deleted before they were read; the latter is told.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

log = logging.getLogger("todoku.agent")

BLOCK = 128 * 1024  # bytes read at once
LONGEST_LINE = 64 * 1024  # bytes; Postfix' are 2,000 at most
GRACE = 2.0  # seconds that a renamed file gets: its writer may not have opened the new one yet
_TAIL = 256  # bytes that a digest is made of


@dataclass(frozen=True, slots=True)
class Position:
    """`offset` bytes of the file `inode` were read; `tail` is the digest of the last of them, of `tail_size` bytes."""

    inode: int
    offset: int
    tail_size: int
    tail: str

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Position:
        """ValueError when it is no position."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(text) from error


@dataclass(frozen=True, slots=True)
class Found:
    """A file that belongs to a log: the log itself or a rotated one."""

    name: str
    inode: int
    written: int  # nanoseconds since 1970: when it was last written to


class LogFiles(Protocol):
    """A log file and those that were rotated out of it."""

    name: str

    def found(self) -> Sequence[Found]: ...
    def open(self, name: str) -> BinaryIO:
        """OSError when it cannot be read, or is there no more."""
        ...


class Folder:
    """`LogFiles` of a path that this process may read."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._folder = path.parent

    def found(self) -> list[Found]:
        files = []
        for path in self._folder.glob(f"{self.name}*"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                files.append(Found(path.name, stat.st_ino, stat.st_mtime_ns))
        return files

    def open(self, name: str) -> BinaryIO:
        return (self._folder / name).open("rb", buffering=0)


class Follower:
    """Blocks of whole lines from a log, and the position behind them."""

    def __init__(
        self,
        files: LogFiles,
        position: Position | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace: float = GRACE,
    ) -> None:
        self._files = files
        self._clock = clock
        self._grace = grace
        self._file: BinaryIO | None = None
        self._is_current = True
        self._is_fixed = False  # compressed: it changes no more, and looking back in it is slow
        self._inode = position.inode if position else 0
        self._offset = position.offset if position else 0
        self._tail = (position.tail_size, position.tail) if position else (0, "")
        self._quiet_since: float | None = None

    @property
    def position(self) -> Position:
        return Position(self._inode, self._offset, *self._tail)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def read(self) -> bytes:
        """The next lines, at most `BLOCK` bytes and all of them whole; nothing when there are none now.

        OSError when the log cannot be read.
        """
        if self._file is None and not self._find():
            return b""
        if not self._is_ours():
            self.close()
            return self.read() if self._find() else b""
        data = self._piece()
        lines = data[: data.rfind(b"\n") + 1]
        if lines or len(data) >= LONGEST_LINE:
            self._quiet_since = None
            return self._took(lines or data)
        return self._at_the_end(data)

    # -- one file

    def _piece(self) -> bytes:
        file = cast(BinaryIO, self._file)
        file.seek(self._offset)
        return file.read(BLOCK) or b""

    def _took(self, data: bytes) -> bytes:
        """Moves on. What is longer than any line is passed over: it is none of ours."""
        known = data if len(data) >= _TAIL else self._before(self._offset, _TAIL - len(data)) + data
        self._offset += len(data)
        self._note_tail(known[-_TAIL:])
        return data if data.endswith(b"\n") else b""

    def _note_tail(self, octets: bytes) -> None:
        self._tail = (len(octets), hashlib.sha256(octets).hexdigest()[:32])

    def _before(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes in front of `offset`."""
        file = cast(BinaryIO, self._file)
        start = max(0, offset - size)
        file.seek(start)
        return file.read(offset - start) or b""

    def _is_ours(self) -> bool:
        """Whether what was read is still where it was: not after a truncation."""
        size, tail = self._tail
        if not size or self._is_fixed:
            return True
        try:
            octets = self._before(self._offset, size)
        except (OSError, EOFError):
            return False
        return len(octets) == size and hashlib.sha256(octets).hexdigest()[:32] == tail

    # -- from one file to the next

    def _at_the_end(self, half: bytes) -> bytes:
        """Nothing more in this file for now: stay, or go on to the next one."""
        following = self._following()
        if following is None:
            self._quiet_since = None
            return b""
        now = self._clock()
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < self._grace:  # it may still be written to
            return b""
        if not self._open(following, 0):
            return b""
        return half + b"\n" if half else self.read()  # its writer was killed in the middle of a line

    def _following(self) -> Found | None:
        """The file that was begun after this one; None when this is the log itself."""
        files = self._in_order()
        current = next((file for file in files if file.name == self._files.name), None)
        if current is None or (current.inode == self._inode and self._is_current):
            return None
        here = next((place for place, file in enumerate(files) if file.inode == self._inode), None)
        if here is not None and files[here] is not current:
            return files[here + 1]
        # It is gone, or compressed, which keeps its time.
        written = os.fstat(cast(BinaryIO, self._file).fileno()).st_mtime_ns
        return next((file for file in files if file.written > written), current)

    def _in_order(self) -> list[Found]:
        """Oldest first, the log itself last."""
        return sorted(
            self._files.found(), key=lambda file: (file.name == self._files.name, file.written, file.name)
        )

    def _find(self) -> bool:
        """Opens the file that the position is in; or the log from its beginning."""
        files = self._in_order()
        if self._tail[0]:
            # The log itself is the likeliest, then the latest rotated one.
            for file in reversed(files):
                if self._open(file, self._offset) and self._is_ours():
                    self._is_fixed = file.name.endswith(".gz")
                    return True
                self.close()
            log.warning(
                "%s: the file that was read up to byte %d is gone: lines may be missing from the ledger",
                self._files.name,
                self._offset,
            )
        elif begun := next((file for file in files if file.inode == self._inode), None):
            return self._open(begun, 0)
        current = next((file for file in files if file.name == self._files.name), None)
        return current is not None and self._open(current, 0)

    def _open(self, file: Found, offset: int) -> bool:
        try:
            opened = self._files.open(file.name)
        except FileNotFoundError:
            return False
        if file.name.endswith(".gz"):
            opened = cast(BinaryIO, gzip.GzipFile(fileobj=opened))
        self.close()
        self._file = opened
        self._is_current, self._is_fixed = file.name == self._files.name, False
        self._inode = os.fstat(opened.fileno()).st_ino
        self._quiet_since = None
        if offset == 0:
            self._offset, self._tail = 0, (0, "")
        return True
