"""What of a message is an attachment, and its content, decoded piece by piece.

Left alone as a whole: what its sender has signed or encrypted (S/MIME, RFC 8551; PGP, RFC 3156), and reports. The text,
its alternatives, and images that the text shows are no attachments; winmail.dat (application/ms-tnef) is one, and so is
a message that is attached, with all that is in it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from todoku.protect import names, speed
from todoku.protect.mime import Octets, Part

PIECE = 256 * 1024
_SEALED = {
    "multipart/signed",
    "multipart/encrypted",
    "application/pkcs7-mime",
    "application/x-pkcs7-mime",
    "multipart/report",
}
_INLINE_PGP = re.compile(rb"^-----BEGIN PGP (?:SIGNED )?MESSAGE-----", re.MULTILINE)
_NOT_BASE64 = bytes(
    c for c in range(256) if c not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """`name` is safe as a file's name; `octets`: about how many bytes it has decoded."""

    part: Part
    name: str
    octets: int

    @property
    def ending(self) -> str:
        return names.ending(self.name)


def sealed(message: Part, body: Octets) -> bool:
    """Whether its sender has signed or encrypted it: any change would break that."""
    for part in message.walk():
        if part.type in _SEALED:
            return True
        if part.type == "text/plain" and _INLINE_PGP.search(
            body[part.body : min(part.end, part.body + 65536)]
        ):
            return True
    return False


def found(message: Part) -> list[Attachment]:
    """The attachments in their order, with names that differ."""
    parts = [part for part in _leaves(message) if is_attachment(part)]
    called = names.different(names.safe(part.filename, _fallback(part)) for part in parts)
    return [Attachment(part, name, _octets(part)) for part, name in zip(parts, called, strict=True)]


def _leaves(part: Part) -> Iterator[Part]:
    return (each for each in part.walk() if not each.is_multipart)


def is_attachment(part: Part) -> bool:
    """Of a part that is no multipart."""
    parent = part.parent.type if part.parent is not None else ""
    if part.disposition == "attachment":
        return True
    if part.type.startswith("text/") and not (part.filename and part.disposition):
        return part.type not in (
            "text/plain",
            "text/html",
            "text/calendar",
            "text/enriched",
            "text/richtext",
        ) and (parent != "multipart/alternative")
    if parent == "multipart/alternative":
        return part.type.startswith("application/") and part.type != "application/ics"
    shown = part.disposition == "inline" or parent == "multipart/related"
    return not (part.type.startswith("image/") and shown and "Content-ID" in part.headers)


_ENDINGS = {
    "message/rfc822": ".eml",
    "application/ms-tnef": ".dat",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "text/csv": ".csv",
    "text/plain": ".txt",
    "text/html": ".html",
}


def _fallback(part: Part) -> str:
    if part.type == "application/ms-tnef":
        return "winmail.dat"
    return f"attachment{_ENDINGS.get(part.type, '.bin')}"


def _octets(part: Part) -> int:
    size = part.end - part.body
    return size * 57 // 78 if part.encoding == "base64" else size


def content(part: Part, body: Octets) -> Iterator[bytes]:
    """What is attached, decoded, in pieces. What is broken gives what can be read of it, as mail programs do."""
    if part.encoding == "base64":
        return _base64(_pieces(part, body, PIECE // speed.LINE * speed.LINE))
    if part.encoding == "quoted-printable":
        return _quoted_printable(_pieces(part, body))
    return _pieces(part, body)


def _pieces(part: Part, body: Octets, size: int = PIECE) -> Iterator[bytes]:
    for at in range(part.body, part.end, size):
        yield body[at : min(at + size, part.end)]


def _base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        if not rest and (decoded := speed.base64_lines(piece)) is not None:
            yield decoded
            continue
        digits = rest + piece.translate(None, _NOT_BASE64)
        whole = len(digits) // 4 * 4
        rest = digits[whole:]
        yield _decoded(digits[:whole])
    rest = rest.rstrip(b"=")
    if len(rest) > 1:  # the padding is missing
        yield _decoded(rest + b"=" * (-len(rest) % 4))


def _decoded(digits: bytes) -> bytes:
    padding = digits.find(b"=")
    if padding < 0 or padding >= len(digits) - 2:
        try:
            return speed.base64_decoder()(digits)
        except binascii.Error:
            pass
    # Padding in the middle: pieces that were put together. Each is decoded by itself.
    made = b""
    for run in re.findall(rb"[^=]+", digits):
        run = run[: len(run) - (len(run) % 4 == 1)]
        made += binascii.a2b_base64(run + b"=" * (-len(run) % 4))
    return made


def _quoted_printable(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        lines = rest + piece
        whole = lines.rfind(b"\n") + 1
        if not whole and len(lines) > PIECE:  # a line without an end
            whole = lines.rfind(b"=", len(lines) - 3) if b"=" in lines[-3:] else len(lines)
        rest = lines[whole:]
        yield binascii.a2b_qp(lines[:whole])
    yield binascii.a2b_qp(rest)
