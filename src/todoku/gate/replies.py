"""What a milter answers, as packets; several may be joined and written at once.

Line ends inside header values are "\\n" on the wire, as Postfix sends them.
"""

from __future__ import annotations

import re
import struct
import textwrap
from collections.abc import Iterable, Iterator

BODY_PIECE = 65_535  # MILTER_CHUNK_SIZE
REPLY_LINE = 480  # RFC 5321 4.5.3.1.5: a reply line has at most 512 octets, code and line end included

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def packet(command: str, payload: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(payload), ord(command)) + payload


CONTINUE = packet("c")
SKIP = packet("s")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _string(text: str) -> bytes:
    raw = _raw(text)
    if b"\0" in raw:
        raise ValueError(f"a NUL in {text!r} cannot be sent to the mail server")
    return raw + b"\0"


def reply_code(code: int, enhanced: str, words: str) -> bytes:
    """An SMTP reply of our own: one line, or several when the words are long or have line breaks.

    Non-ASCII characters become backslash escapes (RFC 5321 4.2 allows none), and "%" is doubled, since mail
    servers take the text as a format string.
    """
    lines: list[str] = []
    for line in words.splitlines() or [""]:
        plain = _CONTROL.sub(" ", line).encode("ascii", "backslashreplace").decode("ascii").strip()
        lines += textwrap.wrap(plain, REPLY_LINE - len(enhanced) - 5) or [""]
    last = len(lines) - 1
    text = "\r\n".join(f"{code}{' ' if i == last else '-'}{enhanced} {line}" for i, line in enumerate(lines))
    return packet("y", text.replace("%", "%%").encode() + b"\0")


def _value(value: str, *, leading_space: bool) -> bytes:
    """A header value as the mail server wants it: with its own leading space when that was agreed, else without."""
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    if leading_space and not value.startswith((" ", "\t", "\n")):
        value = " " + value
    elif not leading_space:
        value = value.removeprefix(" ")
    return _string(value)


def add_header(name: str, value: str, *, leading_space: bool) -> bytes:
    """A header below all others."""
    return packet("h", _string(name) + _value(value, leading_space=leading_space))


def insert_header(name: str, value: str, *, leading_space: bool) -> bytes:
    """A header above all others, the mail server's own Received included."""
    return packet("i", struct.pack(">I", 0) + _string(name) + _value(value, leading_space=leading_space))


def change_header(name: str, nth: int, value: str, *, leading_space: bool) -> bytes:
    """The `nth` header of that name (from 1) as the milter was told them gets another value."""
    return packet("m", struct.pack(">I", nth) + _string(name) + _value(value, leading_space=leading_space))


def delete_header(name: str, nth: int) -> bytes:
    return packet("m", struct.pack(">I", nth) + _string(name) + b"\0")


def change_sender(address: str) -> bytes:
    return packet("e", _string(f"<{address}>"))


def add_recipient(address: str) -> bytes:
    return packet("+", _string(f"<{address}>"))


def delete_recipient(address_as_given: str) -> bytes:
    return packet("-", _string(address_as_given))


def replace_body(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The whole new body in pieces; an empty one is one empty piece."""
    empty = True
    for chunk in chunks:
        for at in range(0, len(chunk), BODY_PIECE):
            empty = False
            yield packet("b", chunk[at : at + BODY_PIECE])
    if empty:
        yield packet("b")
