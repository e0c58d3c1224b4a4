"""A message as its bytes, cut into header fields and body (RFC 5322 2.1, 2.2).

Not with Python's email package: it repairs what it reads, and here what is broken is what is looked for. Its reading of
MIME parts is used for the content (`Message.parts`), where only the text counts.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = re.compile(rb"[!-9;-~]+")  # RFC 5322 3.6.8
_LINE = re.compile(rb"\r\n|\n|\r(?!\n)")
_MOST_PARTS = 200
_MOST_READ = 512 * 1024  # bytes of the message in which text parts are looked for
_MOST_LINES = 20_000  # of the header section; what comes after is taken for body
_MOST_STRAYS = 10  # kept


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: `value` unfolded and stripped, bytes beyond ASCII as they come (surrogates)."""

    name: str
    value: str
    size: int  # bytes, with name, folding and line ends

    @property
    def lower(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Message:
    """`strays`: lines in the header section that are no header. `mbox`: it began with an mbox "From " line."""

    raw: bytes
    fields: tuple[Field, ...]
    body: bytes
    strays: tuple[str, ...] = ()
    mbox: bool = False

    @property
    def header_size(self) -> int:
        return sum(field.size for field in self.fields)

    def all(self, name: str) -> list[str]:
        return [field.value for field in self.fields if field.lower == name.lower()]

    def first(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def parts(self) -> Iterator[tuple[str, str]]:
        """Type and text of each text part, as a mail program would show it; nothing for what cannot be read."""
        try:
            whole = email.message_from_bytes(self.raw[:_MOST_READ], policy=email.policy.compat32)
            for number, part in enumerate(whole.walk()):
                if number >= _MOST_PARTS:
                    return
                if part.get_content_maintype() == "text":
                    yield part.get_content_type(), _text(part)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
            return  # the standard library's parser fails in many ways on hostile input; `form` tells what is wrong


def parse(raw: bytes) -> Message:
    """Any bytes. What is before the first empty line is header, each field with its folded lines."""
    mbox = raw.startswith((b"From ", b">From "))
    if mbox:
        end = _LINE.search(raw)
        raw = raw[end.end() :] if end else b""
    fields: list[Field] = []
    strays: list[str] = []
    pending: list[bytes] = []
    at, body = 0, b""
    for _ in range(_MOST_LINES):
        if at >= len(raw):
            break
        found = _LINE.search(raw, at)
        line, following = (raw[at : found.start()], found.end()) if found else (raw[at:], len(raw))
        if not line:
            body = raw[following:]
            break
        if line[:1] in b" \t" and pending:
            pending.append(raw[at:following])
        else:
            _finish(pending, fields)
            name, colon, _ = line.partition(b":")
            if colon and _NAME.fullmatch(name.rstrip(b" \t")):
                pending = [raw[at:following]]
            else:
                pending = []
                strays[_MOST_STRAYS:] = []
                strays.append(text(line[:200]))
        at = following
    else:
        body = raw[at:]
    _finish(pending, fields)
    return Message(raw, tuple(fields), body, tuple(strays), mbox)


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _finish(pending: list[bytes], fields: list[Field]) -> None:
    if not pending:
        return
    whole = b"".join(pending)
    name, _, value = whole.partition(b":")
    unfolded = re.sub(rb"[\r\n]+", b"", value).strip(b" \t")
    fields.append(Field(text(name.rstrip(b" \t")), text(unfolded), len(whole)))


def _text(part: email.message.Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    charset = part.get_content_charset() or "utf-8"
    try:
        return payload.decode(charset, "replace")
    except (LookupError, ValueError):
        return payload.decode("latin-1")
