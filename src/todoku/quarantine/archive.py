"""What is in a password-protected ZIP, piece by piece and within bounds (APPNOTE.TXT; WinZip AE-1 and AE-2).

Made for archives by anybody: the number of files, their size together, how much larger they are than the archive, and
archives within archives are bounded by what really comes out, whatever the archive says of itself. Nothing is written
anywhere, and names are never used as paths.

Nor may it hide anything: programs differ in which of an archive's statements they believe. So a file is read to the end
of what is packed and has to have the size that it is said to have, and nothing protected may lie where the directory
does not lead.
"""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyzipper

from todoku.protect import locked_zip

_PIECE = 256 * 1024
_LOCAL = 30  # bytes of a file's own header, without its name (4.3.7)
_ENDLESS = 1 << 62
# pyzipper has a copy of the standard library's module, with errors of its own.
_BAD = (
    zipfile.BadZipFile,
    pyzipper.BadZipFile,
    pyzipper.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    TypeError,
    AttributeError,
    struct.error,
)


class CannotOpen(Exception):
    """Why it cannot be looked into: a word for people, `wrong` where it may be the password."""

    word = ""


class WrongPassword(CannotOpen):
    """None of the passwords opens it."""

    word = "wrong"


class TooMuch(CannotOpen):
    """More comes out than there may be."""

    word = "too-much"


class Broken(CannotOpen):
    """It is no archive that can be read to its end."""

    word = "broken"


class NotSupported(CannotOpen):
    """Packed or encrypted in a way that there is no program for here."""

    word = "not-supported"


@dataclass(frozen=True, slots=True)
class Bounds:
    """`octets` that come out together, `ratio` of that to the archive's size (looked at beyond a megabyte), `deepest`
    archive in an archive."""

    files: int = 5_000
    octets: int = 500_000_000
    ratio: int = 300
    deepest: int = 3


@dataclass(slots=True)
class _Left:
    """Of the bounds, for all that is in one archive."""

    files: int
    octets: int


@dataclass(frozen=True, slots=True)
class Began:
    """A file begins; the pieces that follow are of it."""

    name: str


Event = Began | bytes


def contents(file: IO[bytes], size: int, passwords: Sequence[bytes], bounds: Bounds) -> Iterator[Event]:
    """Everything that is in it, archives in it that need a password as well. Raises CannotOpen; what came before then
    is not all there is, and not known to be what was packed."""
    allowed = max(1_000_000, size * bounds.ratio)
    left = _Left(bounds.files, min(bounds.octets, allowed))
    yield from _contents(file, passwords, bounds, left, 1)


def _contents(
    file: IO[bytes], passwords: Sequence[bytes], bounds: Bounds, left: _Left, depth: int
) -> Iterator[Event]:
    try:
        archive = pyzipper.AESZipFile(file)
    except _BAD as problem:
        raise Broken(f"no archive: {problem}") from problem
    except (RuntimeError, NotImplementedError) as problem:
        raise NotSupported(str(problem)) from problem
    infos = archive.infolist()
    left.files -= len(infos)
    if left.files < 0:
        raise TooMuch("too many files")
    if any(locked_zip.is_locked([gap]) for gap in _gaps(file, archive, infos)):
        raise Broken("something protected in it is not in its directory")
    opened = False
    for info in infos:
        if info.filename.endswith("/") and not info.file_size and not info.compress_size:
            continue
        yield Began(info.filename)
        yield from _entry(archive, info, passwords, bounds, left, depth)
        opened = opened or bool(info.flag_bits & 1)
    if not opened and depth == 1 and not _holds_locked(archive, infos):
        raise Broken("it says that it is protected, and nothing in it is")


def _gaps(file: IO[bytes], archive: Any, infos: Sequence[Any]) -> Iterator[bytes]:
    """What lies before, between and behind the files and the directory."""
    covered = [(archive.start_dir, archive.start_dir + sum(map(_directory_entry, infos)))]
    for info in infos:
        if info.header_offset < 0:
            raise Broken("a file of it is before its beginning")
        file.seek(info.header_offset)
        local = file.read(_LOCAL)
        names = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        covered.append((info.header_offset, info.header_offset + _LOCAL + names + info.compress_size))
    end = 0
    for start, until in sorted(covered):
        if start > end:
            file.seek(end)
            yield file.read(start - end)
        end = max(end, until)
    file.seek(end)
    yield file.read()


def _directory_entry(info: Any) -> int:
    """Its length in bytes (4.3.12)."""
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    return 46 + len(name) + len(info.extra) + len(info.comment)


def _holds_locked(archive: Any, infos: Sequence[Any]) -> bool:
    """Whether what is protected is in another archive that is in it."""
    return any(
        locked_zip.is_locked(_read(archive, info, ())) for info in infos if not info.filename.endswith("/")
    )


def _entry(
    archive: Any, info: Any, passwords: Sequence[bytes], bounds: Bounds, left: _Left, depth: int
) -> Iterator[Event]:
    inner = io.BytesIO() if depth <= bounds.deepest else None
    locked, rest = False, b""
    for piece in _read(archive, info, passwords):
        left.octets -= len(piece)
        if left.octets < 0:
            raise TooMuch("too much comes out of it")
        yield piece
        locked = locked or locked_zip.is_locked([rest + piece])
        rest = piece[-64:]
        if inner is not None:
            inner.write(piece)
    if not locked:
        return
    if inner is None:
        raise TooMuch("too many archives within archives")
    inner.seek(0)
    yield from _contents(inner, passwords, bounds, left, depth + 1)


def _read(archive: Any, info: Any, passwords: Sequence[bytes]) -> Iterator[bytes]:
    """The file's content, which is what was packed once this is over."""
    said, size = info.file_size, 0
    info.file_size = _ENDLESS  # what comes out counts, not what it says
    try:
        with _open(archive, info, passwords) as stream:
            while piece := stream.read(_PIECE):
                size += len(piece)
                yield piece
        if size != said:
            raise Broken(f"{size} bytes come out, and {said} are said to")
    except _BAD as problem:
        if info.flag_bits & 1:  # of 256 wrong passwords the old encryption takes one for right at first
            raise WrongPassword(str(problem)) from problem
        raise Broken(str(problem)) from problem


def _open(archive: Any, info: Any, passwords: Sequence[bytes]) -> Any:
    if not info.flag_bits & 1:
        return _opened(archive, info, None)
    problem: WrongPassword = WrongPassword("no password was given")
    for password in passwords:
        try:
            return _opened(archive, info, password)
        except WrongPassword as error:
            problem = error
    raise problem


def _opened(archive: Any, info: Any, password: bytes | None) -> Any:
    try:
        return archive.open(info, pwd=password)
    except NotImplementedError as problem:
        raise NotSupported(str(problem)) from problem
    except RuntimeError as problem:  # "Bad password for file", and nothing more precise
        raise WrongPassword(str(problem)) from problem
