"""The parts of a message, by their places in it (RFC 2045, 2046): nothing is decoded or copied to know them.

Made for messages by anybody, broken or hostile: what has no end ends with what it is in, and the number of parts, their
depth and the size of their headers are bounded.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser
from typing import TypeAlias

from todoku.protect import subject

MOST_PARTS = 10_000
DEEPEST = 50
LARGEST_HEADERS = 64 * 1024  # bytes of one part's
_SHORT, _LONG = 256, 256 * 1024  # bytes that are looked through at once

Octets: TypeAlias = bytes | mmap.mmap

_PARSER = BytesHeaderParser(policy=policy.compat32)
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")


class TooComplex(Exception):
    """More parts, or deeper ones, than anybody needs; the message says which."""


@dataclass(slots=True, eq=False)
class Part:
    """One entity. `delimiter`: where its delimiter line begins; `start`: where its headers do; `body` and `end`: its
    content, without the line end before the next delimiter. Offsets into the body of the message."""

    headers: Message
    delimiter: int
    start: int
    body: int
    end: int
    type: str
    parent: Part | None = None
    parts: list[Part] = field(default_factory=list)
    boundary: bytes = b""
    closing: int | None = None  # of a multipart: where its closing delimiter line begins

    @property
    def is_multipart(self) -> bool:
        return bool(self.boundary)

    @property
    def encoding(self) -> str:
        """Content-Transfer-Encoding, lower case."""
        return _words(self.headers.get("Content-Transfer-Encoding", "7bit")) or "7bit"

    @property
    def disposition(self) -> str:
        """ "attachment", "inline", or empty."""
        return _words(self.headers.get("Content-Disposition", ""))

    @property
    def filename(self) -> str:
        """As the sender gave it, decoded (RFC 2231, or the RFC 2047 words that many programs use); may be empty."""
        try:
            name = self.headers.get_filename() or ""
        except (LookupError, ValueError, TypeError, AttributeError, IndexError):
            return ""  # parameters that the standard library fails on
        return subject.decoded(name.encode("utf-8", "replace").decode())

    def walk(self) -> Iterator[Part]:
        """This part and all below it, in their order."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.parts))


def read(headers: bytes, body: Octets) -> Part:
    """The parts of a message with that header block and body. Raises TooComplex."""
    budget = [MOST_PARTS]
    parsed = _PARSER.parsebytes(headers)
    return _entity(parsed, body, 0, 0, 0, len(body), None, 0, budget)


def _entity(
    headers: Message,
    body: Octets,
    delimiter: int,
    start: int,
    content: int,
    end: int,
    parent: Part | None,
    depth: int,
    budget: list[int],
) -> Part:
    budget[0] -= 1
    if budget[0] < 0:
        raise TooComplex(f"it has more than {MOST_PARTS:,} parts")
    if depth > DEEPEST:
        raise TooComplex(f"its parts are nested more than {DEEPEST} deep")
    part = Part(headers, delimiter, start, content, max(content, end), _type(headers, parent), parent)
    if part.type.startswith("multipart/"):
        part.boundary = _boundary(headers)
        if part.boundary:
            _children(part, body, depth, budget)
    return part


def _children(whole: Part, body: Octets, depth: int, budget: list[int]) -> None:
    """RFC 2046 5.1.1: a delimiter stands at the beginning of a line; two hyphens after it close."""
    began: tuple[int, int] | None = None  # of the current part: its delimiter line, and what follows that
    for line, after, closes in _delimiters(whole, body):
        if began is not None:
            whole.parts.append(_part(whole, body, began, _before(body, line, began[1]), depth, budget))
        if closes:
            whole.closing = line
            return
        began = line, after
    if began is not None:
        whole.parts.append(_part(whole, body, began, whole.end, depth, budget))


def _delimiters(whole: Part, body: Octets) -> Iterator[tuple[int, int, bool]]:
    """Each delimiter line: where it begins, where the next line does, and whether it closes."""
    mark = b"--" + whole.boundary
    at = whole.body
    while True:
        at = _find(body, mark, at, whole.end)
        if at < 0:
            return
        after = at + len(mark)
        if at == whole.body or body[at - 1 : at] == b"\n":
            line_end = _find(body, b"\n", after, whole.end)
            line_end = whole.end if line_end < 0 else line_end
            closes = body[after : after + 2] == b"--"
            rest = body[after + 2 * closes : min(line_end, after + 1000)]
            if not rest.strip(b" \t\r"):
                yield at, min(line_end + 1, whole.end), closes
        at = after


def _find(body: Octets, mark: bytes, start: int, end: int) -> int:
    """As `bytes.find`. mmap's looks at one octet after the other, ten times as slow; and it goes on to the end."""
    if isinstance(body, bytes):
        return body.find(mark, start, end)
    size = _SHORT  # most often what is looked for is near
    while start < end:
        found = body[start : min(start + size + len(mark) - 1, end)].find(mark)
        if found >= 0:
            return start + found
        start += size
        size = _LONG
    return -1


def _before(body: Octets, line: int, earliest: int) -> int:
    """The end of what stands before a delimiter line: the line end before it belongs to the delimiter."""
    end = line
    if end > earliest and body[end - 1 : end] == b"\n":
        end -= 1
        if end > earliest and body[end - 1 : end] == b"\r":
            end -= 1
    return end


_BLANK = re.compile(rb"\r?\n\r?\n")


def _part(whole: Part, body: Octets, began: tuple[int, int], end: int, depth: int, budget: list[int]) -> Part:
    line, start = began
    first = body[start : min(end, start + LARGEST_HEADERS)]
    if first.startswith((b"\r\n", b"\n")):  # no headers at all: text/plain
        content = start + (2 if first.startswith(b"\r\n") else 1)
        return _entity(Message(), body, line, start, content, end, whole, depth + 1, budget)
    blank = _BLANK.search(first)
    if blank is None:
        if end - start > LARGEST_HEADERS:
            raise TooComplex(f"a part has more than {LARGEST_HEADERS} bytes of headers")
        return _entity(_PARSER.parsebytes(first), body, line, start, end, end, whole, depth + 1, budget)
    headers = _PARSER.parsebytes(first[: blank.end()])
    return _entity(headers, body, line, start, start + blank.end(), end, whole, depth + 1, budget)


def _type(headers: Message, parent: Part | None) -> str:
    given = headers.get("Content-Type")
    if given is None:
        # RFC 2046 5.1.5
        return "message/rfc822" if parent is not None and parent.type == "multipart/digest" else "text/plain"
    found = _words(given)
    # RFC 2045 5.2: what cannot be read is text/plain for some and a file for others: a file, which is protected
    return found if _TYPE.fullmatch(found) else "application/octet-stream"


def _words(value: object) -> str:
    """A header's value without its parameters and comments, lower case."""
    text = re.sub(r"\([^()]*\)", "", str(value))
    return text.partition(";")[0].strip().lower()


def _boundary(headers: Message) -> bytes:
    try:
        given = headers.get_boundary() or ""
    except (LookupError, ValueError, TypeError, AttributeError, IndexError):
        return b""
    boundary = given.encode("ascii", "surrogateescape" if given.isascii() else "replace")
    return boundary if 0 < len(boundary) <= 200 and b"\n" not in boundary else b""
