"""A ZIP with AES-256 (WinZip AE-2), written in one pass to where nothing can be taken back.

PKWARE's APPNOTE.TXT 6.3.10. Sizes are not known before, so each entry has a data descriptor after it (bit 3), and the
central directory has them. AE-2 leaves the CRC out, which would tell about the content of small files. What is
compressed already is stored. Names are UTF-8 (bit 11), or CP932 for Japanese Windows before 8, without a word about it,
as that is what those expect.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from todoku.protect.winzip_aes import OVERHEAD, Encryptor, Octets

Names = Literal["utf-8", "cp932"]

_LARGEST = 0xFFFFFFFF - OVERHEAD  # without ZIP64; a message cannot be larger
_NEEDED = 51  # version: AES
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 1, 1 << 3, 1 << 11
_AES, _STORE, _DEFLATE = 99, 0, 8
_UNIX = 3 << 8
_FILE = 0o100644 << 16
# Compressed already: deflating them again takes six times as long and saves nothing.
_COMPRESSED = frozenset(
    {
        *("7z", "br", "bz2", "cab", "gz", "jar", "lzh", "rar", "tgz", "xz", "zip", "zst"),
        *("docm", "docx", "epub", "odp", "ods", "odt", "pdf", "pptm", "pptx", "xlsb", "xlsm", "xlsx"),
        *("avif", "gif", "heic", "heif", "jpeg", "jpg", "jxl", "png", "webp"),
        *("aac", "flac", "m4a", "mp3", "ogg", "opus", "wma"),
        *("avi", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "webm", "wmv"),
        *("apk",),
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its name, and its content in pieces, asked for once."""

    name: str
    content: Iterable[bytes]

    @property
    def is_compressed(self) -> bool:
        return self.name.rpartition(".")[2].lower() in _COMPRESSED


@dataclass(frozen=True, slots=True)
class _Written:
    name: bytes
    flags: int
    method: int
    at: int
    inside: int
    size: int


class TooLarge(Exception):
    """A file, or all together, of 4 GiB or more."""


def write(
    entries: Iterable[Entry], password: str, *, names: Names = "utf-8", now: float | None = None
) -> Iterator[Octets]:
    """The archive in pieces, each good until the next is asked for. Raises TooLarge, and what a content does."""
    stamp = _dos_time(time.time() if now is None else now)
    written: list[_Written] = []
    at = 0
    for entry in entries:
        began = at
        name, flags = _encoded(entry.name, names)
        flags |= _ENCRYPTED | _DESCRIPTOR
        method = _STORE if entry.is_compressed else _DEFLATE
        head = _local(name, flags, method, stamp)
        yield head
        at += len(head)
        inside = size = 0
        encryptor = Encryptor(password.encode())
        compressor = zlib.compressobj(6, zlib.DEFLATED, -15) if method == _DEFLATE else None
        yield encryptor.beginning
        for piece in entry.content:
            size += len(piece)
            packed = compressor.compress(piece) if compressor else piece
            inside += len(packed)
            if max(size, at + inside) > _LARGEST:
                raise TooLarge("a ZIP cannot be larger than 4 GiB")
            if packed:
                yield from encryptor.update(packed)
        if compressor and (packed := compressor.flush()):
            inside += len(packed)
            yield from encryptor.update(packed)
        yield encryptor.end()
        inside += OVERHEAD
        yield struct.pack("<4sIII", b"PK\x07\x08", 0, inside, size)
        at += inside + 16
        written.append(_Written(name, flags, method, began, inside, size))
    directory = b"".join(_central(each, stamp) for each in written)
    yield directory
    count = len(written)
    yield struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), at, 0)


def _encoded(name: str, names: Names) -> tuple[bytes, int]:
    if name.isascii():
        return name.encode(), 0
    if names == "cp932":
        return name.encode("cp932", "replace").replace(b"?", b"_"), 0
    return name.encode(), _UTF8


def _extra(method: int) -> bytes:
    """AE-2, 256 bits, and how it is packed inside."""
    return struct.pack("<HHH2sBH", 0x9901, 7, 2, b"AE", 3, method)


def _local(name: bytes, flags: int, method: int, stamp: int) -> bytes:
    extra = _extra(method)
    fixed = struct.pack(
        "<4sHHHIIIIHH", b"PK\x03\x04", _NEEDED, flags, _AES, stamp, 0, 0, 0, len(name), len(extra)
    )
    return fixed + name + extra


def _central(each: _Written, stamp: int) -> bytes:
    extra = _extra(each.method)
    fixed = struct.pack(
        "<4sHHHHIIIIHHHHHII",
        b"PK\x01\x02",
        _UNIX | _NEEDED,
        _NEEDED,
        each.flags,
        _AES,
        stamp,
        0,
        each.inside,
        each.size,
        len(each.name),
        len(extra),
        0,
        0,
        0,
        _FILE,
        each.at,
    )
    return fixed + each.name + extra


def _dos_time(now: float) -> int:
    year, month, day, hour, minute, second = time.localtime(now)[:6]
    date = max(0, min(127, year - 1980)) << 9 | month << 5 | day
    return date << 16 | hour << 11 | minute << 5 | second // 2
