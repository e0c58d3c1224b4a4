"""Files encrypted at rest: AES-256-GCM in pieces, one key for each file, any part of it readable by itself.

As STREAM has it (Hoang, Reyhanitabar, Rogaway, Vizár, 2015): the nonce is the number of the piece and whether it is the
last, so that pieces cannot change places and a file that was cut short does not open. A key is used for one file only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PIECE = 64 * 1024  # bytes of content; a tag of 16 is added to each
_TAG = 16
KEY = 32


class Damaged(Exception):
    """The file is not what was written, or the key is not its own."""


def seal(key: bytes, content: Iterable[bytes], path: Path) -> int:
    """Writes it to `path`, which must not exist, and synchronises it. The number of bytes of the content."""
    cipher, size, number = AESGCM(key), 0, 0
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb", buffering=1024 * 1024) as file:
        os.fchmod(descriptor, 0o640)  # whatever the umask: the folder's group hands it out
        rest = bytearray()
        for octets in content:
            size += len(octets)
            rest += octets
            if len(rest) <= PIECE:  # the last piece is never written before the end
                continue
            view = memoryview(rest)
            whole = (len(view) - 1) // PIECE * PIECE
            for at in range(0, whole, PIECE):
                file.write(cipher.encrypt(_nonce(number, last=False), view[at : at + PIECE], None))
                number += 1
            rest = bytearray(view[whole:])
        file.write(cipher.encrypt(_nonce(number, last=True), bytes(rest), None))
        file.flush()
        os.fsync(descriptor)
    return size


def unseal(key: bytes, path: Path, size: int, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes from `start` to before `end` of the `size` there are. Raises Damaged, or OSError."""
    end = size if end is None else end
    cipher = AESGCM(key)
    last = max(0, (size - 1) // PIECE)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size + _TAG * (last + 1):
            raise Damaged(f"{path} does not have the length that it was written with")
        for number in range(start // PIECE, max(end - 1, 0) // PIECE + 1):
            file.seek(number * (PIECE + _TAG))
            try:
                octets = cipher.decrypt(_nonce(number, last=number == last), file.read(PIECE + _TAG), None)
            except InvalidTag:
                raise Damaged(f"{path} was changed since it was written") from None
            first = number * PIECE
            yield octets[max(0, start - first) : end - first]


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
