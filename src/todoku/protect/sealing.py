"""Files encrypted at rest: AES-256-GCM in pieces, one key for each file, any part of it readable by itself.

As STREAM has it (Hoang, Reyhanitabar, Rogaway, Vizár, 2015): the nonce is the number of the piece and whether it is the
last, so that pieces cannot change places and a file that was cut short does not open. A key is used for one file only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PIECE = 64 * 1024  # bytes of content; a tag of 16 is added to each
_TAG = 16
_AT_ONCE = 16  # pieces
_BUFFER = 256 * 1024
_WRITTEN_BACK = 4 * 1024 * 1024
KEY = 32


class Damaged(Exception):
    """The file is not what was written, or the key is not its own."""


def sealed(key: bytes, content: Iterable[bytes]) -> Iterator[bytes]:
    """The content encrypted, in whole pieces, up to `_AT_ONCE` of them together."""
    cipher, number = AESGCM(key), 0
    rest = b""
    for octets in content:
        if len(rest) + len(octets) <= PIECE:  # the last piece is never sealed before the end
            rest += octets
            continue
        view = memoryview(rest + octets if rest else octets)
        whole = (len(view) - 1) // PIECE
        for first in range(0, whole, _AT_ONCE):
            made = [
                cipher.encrypt(_nonce(number + n, last=False), view[at * PIECE : (at + 1) * PIECE], None)
                for n, at in enumerate(range(first, min(first + _AT_ONCE, whole)))
            ]
            number += len(made)
            yield b"".join(made)
        rest = bytes(view[whole * PIECE :])
    yield cipher.encrypt(_nonce(number, last=True), rest, None)


def seal(key: bytes, content: Iterable[bytes], path: Path) -> int:
    """Writes it to `path`, which must not exist, and synchronises it. The number of bytes of the content."""
    began = written = 0
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb", buffering=_BUFFER) as file:
        os.fchmod(descriptor, 0o640)  # whatever the umask: the folder's group hands it out
        for octets in sealed(key, content):
            file.write(octets)
            written += len(octets)
            if written - began >= _WRITTEN_BACK:
                # posix_fadvise(2): Linux begins to write it to the disk, so that the end has little to wait for
                os.posix_fadvise(descriptor, began, written - began, os.POSIX_FADV_DONTNEED)
                began = written
        file.flush()
        os.fsync(descriptor)
    return content_size(written)


def sealed_size(size: int) -> int:
    """Bytes that `size` bytes of content have when they are sealed."""
    return size + _TAG * max(1, -(-size // PIECE))


def content_size(size: int) -> int:
    """Bytes of content in `size` sealed ones."""
    return size - _TAG * -(-size // (PIECE + _TAG))


def unseal(key: bytes, path: Path, size: int, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes from `start` to before `end` of the `size` there are. Raises Damaged, or OSError."""
    end = size if end is None else end
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != sealed_size(size):
            raise Damaged(f"{path} does not have the length that it was written with")
        file.seek(sealed_range(size, start, end)[0])
        yield from unsealed(key, file.read, size, start, end)


def sealed_range(size: int, start: int, end: int) -> tuple[int, int]:
    """Which sealed bytes are needed for those from `start` to before `end`: the first, and that after the last."""
    first, last = start // PIECE, max(end - 1, start) // PIECE
    return first * (PIECE + _TAG), min((last + 1) * (PIECE + _TAG), sealed_size(size))


def unsealed(key: bytes, read: Callable[[int], bytes], size: int, start: int, end: int) -> Iterator[bytes]:
    """The same, `read` giving the bytes of `sealed_range`. Raises Damaged, and what `read` does."""
    if start >= size > 0:
        return  # at the very end there is no piece any more
    cipher, last = AESGCM(key), max(0, (size - 1) // PIECE)
    for number in range(start // PIECE, max(end - 1, start) // PIECE + 1):
        first = number * PIECE
        try:
            octets = cipher.decrypt(
                _nonce(number, last=number == last), _exactly(read, min(PIECE, size - first) + _TAG), None
            )
        except InvalidTag:
            raise Damaged("a file was changed since it was written") from None
        yield octets[max(0, start - first) : end - first]


def _exactly(read: Callable[[int], bytes], octets: int) -> bytes:
    found = read(octets)
    while len(found) < octets:  # over a network it may come in pieces
        more = read(octets - len(found))
        if not more:
            raise Damaged("a file ends before its end")
        found += more
    return found


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
