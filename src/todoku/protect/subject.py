"""The words in a subject by which its writer chooses, read and removed: #link, #zip, #expire=3d (RFC 2047)."""

from __future__ import annotations

import email.header
import re
from dataclasses import dataclass

from todoku.protect.policy import Mode

_WORD = re.compile(r"(?:(?<=\s)|^)#(?:(link|zip)|expire=(\d{1,2})d)(?=\s|$)", re.IGNORECASE)
LONGEST = 90  # days


@dataclass(frozen=True, slots=True)
class Asked:
    """`days` a link is to be good; `rest` is the subject without the words, None when there were none."""

    mode: Mode | None = None
    rest: str | None = None
    days: int | None = None


def read(subject: str) -> Asked:
    """What the decoded subject asks for; of several words the last counts."""
    mode: Mode | None = None
    days: int | None = None
    found = False
    for word in _WORD.finditer(subject):
        found = True
        if word[1]:
            mode = Mode(word[1].lower())
        else:
            days = min(max(int(word[2]), 1), LONGEST)
    return Asked(mode, " ".join(_WORD.sub(" ", subject).split()), days) if found else Asked()


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
