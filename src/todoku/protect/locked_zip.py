"""Whether a message brings a password-protected ZIP, which no scanner can look into.

Seen by the flag of an entry, in its own header or in the archive's directory (APPNOTE.TXT 4.3.7, 4.3.12, 4.4.4),
wherever it stands: at the beginning, behind a program that unpacks itself, or in another ZIP that only stores it. The
name and the type that the sender gave say nothing. Attached messages are looked into as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from todoku.protect import attachments, mime
from todoku.protect.mime import Octets, Part

_DEEPEST = 5  # messages in messages
_HEADER = 30  # bytes that are looked at together
# The signature; versions up to 6.3; flags with bit 0, and without the bits that are not used; a method that exists.
_FLAGS = rb"[\x01\x03\x05\x07\x09\x0b\x0d\x0f\x41\x43\x45\x47\x49\x4b\x4d\x4f][\x00\x08\x20\x28]"
_METHODS = rb"(?:[\x00\x01\x06\x08\x09\x0a\x0c\x0e\x13\x5c-\x63]\x00)"
_LOCKED = re.compile(
    rb"PK\x03\x04[\x00-\x3f][\x00-\xff]" + _FLAGS + _METHODS
    + rb"|PK\x01\x02[\x00-\x3f][\x00-\xff][\x00-\x3f][\x00-\xff]" + _FLAGS + _METHODS,
    re.DOTALL,
)  # fmt: skip


def found(headers: bytes, body: Octets) -> list[str]:
    """The names of the attachments that are one or hold one. Raises TooComplex."""
    return [name for name, _ in archives(headers, body)]


def archives(headers: bytes, body: Octets) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The same with their content, decoded, in pieces. Raises TooComplex."""
    yield from _found(mime.read(headers, body), body, 0)


def _found(message: Part, body: Octets, depth: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    for each in attachments.found(message):
        if each.part.type == "message/rfc822" and depth < _DEEPEST:
            raw = b"".join(attachments.content(each.part, body))
            head, _, rest = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
            yield from _found(mime.read(head + b"\n\n", rest), rest, depth + 1)
        elif is_locked(attachments.content(each.part, body)):
            yield each.name, attachments.content(each.part, body)


def is_locked(content: Iterable[bytes]) -> bool:
    rest = b""
    for piece in content:
        octets = rest + piece
        if _LOCKED.search(octets):
            return True
        rest = octets[-_HEADER:]
    return False
