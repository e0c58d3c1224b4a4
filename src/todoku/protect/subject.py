"""The words in a subject by which its writer chooses: #zip. Read, and removed (RFC 2047 words are decoded for it)."""

from __future__ import annotations

import email.header
import re
from dataclasses import dataclass

from todoku.protect.policy import Mode

_WORD = re.compile(r"(?:(?<=\s)|^)#(zip)(?=\s|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """`rest` is the subject without the words; None when there were none."""

    mode: Mode | None = None
    rest: str | None = None


def read(subject: str) -> Asked:
    """What the decoded subject asks for; of several words the last counts."""
    found = _WORD.findall(subject)
    if not found:
        return Asked()
    return Asked(Mode(found[-1].lower()), " ".join(_WORD.sub(" ", subject).split()))


def decoded(value: str) -> str:
    """A header's value as people read it; what cannot be decoded stays as it is."""
    unfolded = re.sub(r"\r?\n", "", value).strip()
    try:
        return str(email.header.make_header(email.header.decode_header(unfolded)))
    except (LookupError, ValueError, UnicodeError):  # HeaderParseError is a ValueError
        return unfolded


def one_line(text: str) -> str:
    """Without what a header cannot hold."""
    return "".join(c if c.isprintable() else " " for c in text).encode("utf-8", "replace").decode()


def encoded(text: str) -> str:
    """The same for the wire: ASCII, folded with the leading space."""
    text = one_line(text)
    if text.isascii():
        return " " + email.header.Header(text, "us-ascii", maxlinelen=900).encode(linesep="\n")
    return " " + email.header.Header(text, "utf-8", maxlinelen=75).encode(linesep="\n")
