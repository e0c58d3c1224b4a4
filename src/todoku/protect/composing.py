"""A message anew, some of its parts left out and others put in; all that stays, stays as it was, octet by octet.

What is put in goes to the end of a multipart/mixed; any other message becomes the first part of a new one.
"""

from __future__ import annotations

import binascii
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

from todoku.protect.attachments import PIECE
from todoku.protect.mime import Octets, Part

Headers: TypeAlias = Iterable[tuple[str, str]]  # names and raw values, leading space included
_LINE = 57  # bytes that make 76 characters of base64


@dataclass(frozen=True, slots=True)
class Added:
    """A part to put in: its header lines, each with its end; and its content, decoded, in pieces."""

    head: bytes
    content: Iterable[bytes | memoryview]


def text_part(text: str) -> Added:
    """Plain text that is shown with the message."""
    head = b'Content-Type: text/plain; charset="utf-8"\r\nContent-Disposition: inline\r\n'
    return Added(head, [text.replace("\n", "\r\n").encode()])


def zip_part(name: str, content: Iterable[bytes | memoryview]) -> Added:
    """`name` in ASCII."""
    head = f'Content-Type: application/zip; name="{name}"\r\nContent-Disposition: attachment; filename="{name}"\r\n'
    return Added(head.encode("ascii"), content)


def composed(
    headers: Headers, message: Part, body: Octets, removed: Collection[Part], added: Iterable[Added]
) -> Iterator[bytes]:
    """The whole message with CRLF line ends, in pieces. `removed` are leaves; what they leave empty goes as well."""
    gone = {id(part) for part in removed}
    _with_emptied(message, gone)
    if message.type == "multipart/mixed" and message.boundary:
        yield _lines(headers) + b"\r\n"
        yield from _kept(message, body, gone)
        if (
            message.closing is None
            and message.end > message.body
            and body[message.end - 1 : message.end] != b"\n"
        ):
            yield b"\r\n"
        yield from _appended(added, message.boundary)
        return
    boundary = f"=_todoku_{secrets.token_hex(16)}".encode()
    yield from _wrapped(headers, message, body, gone, boundary)
    yield from _appended(added, boundary)


def _with_emptied(message: Part, gone: set[int]) -> None:
    for part in reversed(list(message.walk())):
        if part.parts and part is not message and all(id(each) in gone for each in part.parts):
            gone.add(id(part))


def _wrapped(
    headers: Headers, message: Part, body: Octets, gone: set[int], boundary: bytes
) -> Iterator[bytes]:
    all_ = list(headers)
    outer = [(n, v) for n, v in all_ if not n.lower().startswith("content-")]
    inner = [(n, v) for n, v in all_ if n.lower().startswith("content-")]
    if not any(name.lower() == "mime-version" for name, _ in outer):
        outer.append(("MIME-Version", " 1.0"))
    outer.append(("Content-Type", f' multipart/mixed; boundary="{boundary.decode()}"'))
    if message.encoding in ("8bit", "binary"):  # RFC 2045 6.4: what is inside has to be allowed outside
        outer.append(("Content-Transfer-Encoding", f" {message.encoding}"))
    yield _lines(outer) + b"\r\n"
    if id(message) not in gone and not (message.parts and all(id(each) in gone for each in message.parts)):
        yield b"--" + boundary + b"\r\n" + _lines(inner) + b"\r\n"
        yield from _kept(message, body, gone, whole=True)
        yield b"\r\n"


def _kept(part: Part, body: Octets, gone: set[int], *, whole: bool = False) -> Iterator[bytes]:
    """A part's content without what is gone; of the message itself unless `whole` only to its closing delimiter."""
    at = part.body
    for child, following in zip_longest(part.parts, part.parts[1:]):
        if id(child) in gone:
            yield from _range(body, at, child.delimiter)
            at = _next(part, following)
        elif any(id(each) in gone for each in child.walk()):
            yield from _range(body, at, child.body)
            yield from _kept(child, body, gone, whole=True)
            at = child.end
    to_the_end = whole or part.closing is None
    yield from _range(body, at, part.end if to_the_end else part.closing or part.end)


def _next(whole: Part, following: Part | None) -> int:
    """Where the delimiter of the part that follows begins, or the closing one."""
    if following is not None:
        return following.delimiter
    return whole.end if whole.closing is None else whole.closing


def _range(body: Octets, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, PIECE):
        yield body[at : min(at + PIECE, end)]


def _appended(added: Iterable[Added], boundary: bytes) -> Iterator[bytes]:
    for part in added:
        yield b"--" + boundary + b"\r\n" + part.head + b"Content-Transfer-Encoding: base64\r\n\r\n"
        yield from in_base64(part.content)
    yield b"--" + boundary + b"--\r\n"


def in_base64(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """In lines of 76 characters, the last one ended as well."""
    rest = b""
    for piece in pieces:
        octets = rest + piece
        whole = len(octets) // _LINE * _LINE
        rest = octets[whole:]
        if whole:
            yield _encoded(octets[:whole])
    if rest:
        yield _encoded(rest)


def _encoded(octets: bytes) -> bytes:
    encode = binascii.b2a_base64
    lines = [encode(octets[at : at + _LINE], newline=False) for at in range(0, len(octets), _LINE)]
    return b"\r\n".join(lines) + b"\r\n"


def _lines(headers: Headers) -> bytes:
    raw = "".join(f"{name}:{value}\r\n" for name, value in headers).encode("utf-8", "surrogateescape")
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
