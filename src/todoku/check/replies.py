"""Finding the replies of mail servers in what people have at hand: one reply, a line of a log, a whole bounce.

RFC 5321 4.2 (replies of several lines), RFC 3463 (enhanced codes), RFC 3464 2.3.6 (Diagnostic-Code). Whatever is
pasted, in whatever formatting: it is read, or nothing is found in it; it never fails, and takes time in proportion to
its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

LONGEST = 512 * 1024  # characters that are looked at
_MOST = 50  # replies
_LONGEST_REPLY = 4096  # characters of one

_ENHANCED = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
# A code is followed by a space, a dash, a comma or the end; else it is a part of something else (an address, a time).
_CODE = re.compile(r"(?<![\w.:/#-])([245][0-5]\d)(?=[ \t,-]|$)", re.MULTILINE)
_CODE_FIRST = re.compile(r"[ \t]*([245][0-5]\d)(?=[ \t,-]|$)")
_DIAGNOSTIC = re.compile(
    r"^(?:\[?Diagnostic-Code\]?|X-Postfix-Diagnostic):[ \t]*(?:smtp|x-[\w-]+)?[ \t]*;?",
    re.IGNORECASE | re.MULTILINE,
)
_REMOTE = re.compile(r"^Remote-MTA:[ \t]*(?:dns;)?[ \t]*(\S{1,255})", re.IGNORECASE | re.MULTILINE)
_SAID = re.compile(r"\b(?:host[ \t]+(\S{1,255})\s{1,4}(?:\[?\S{0,64}\]?\s{0,4})?)?said:", re.IGNORECASE)
_AFTER = re.compile(r"\(in reply to|^--\S|^$|\n[ \t]*\n|\n[A-Z][A-Za-z-]{2,40}:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. `code` is 0 and `enhanced` empty where the text has none; `words` is all of it, on one line."""

    code: int
    enhanced: str
    words: str
    host: str = ""

    @property
    def permanent(self) -> bool | None:
        """Whether trying again is of no use; None when neither code says so. 254 is the relay's "suppressed"."""
        first = str(self.code)[0] if self.code else self.enhanced[:1]
        if self.code == 254:
            return True
        return {"4": False, "5": True}.get(first)

    def __str__(self) -> str:
        return self.words


def find(text: str) -> list[Reply]:
    """The replies in `text`, each once; for text without any code, one of its words alone."""
    text = (
        text[:LONGEST].replace("\\r\\n", "\n").replace("\\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    )
    pieces = _diagnostics(text) or _sayings(text) or [("", text)]
    replies = [_reply(host, piece) for host, piece in pieces[:_MOST]]
    return list(dict.fromkeys(reply for reply in replies if reply.words))


def _diagnostics(text: str) -> list[tuple[str, str]]:
    """The Diagnostic-Code fields of a delivery status notification, each with the host that said it."""
    found = []
    host = ""
    fields = (*islice(_REMOTE.finditer(text), _MOST), *islice(_DIAGNOSTIC.finditer(text), _MOST))
    for match in sorted(fields, key=lambda match: match.start()):
        if match.re is _REMOTE:
            host = match[1]
            continue
        field, *folded = text[match.end() : match.end() + _LONGEST_REPLY].split("\n")
        for line in folded:
            if not line.startswith((" ", "\t")):
                break
            field += "\n" + line
        found.append((host, field))
    return found


def _sayings(text: str) -> list[tuple[str, str]]:
    """What stands behind "said:", in Postfix's log and bounces, and those of others."""
    found = []
    for match in islice(_SAID.finditer(text), _MOST):
        piece = text[match.end() : match.end() + _LONGEST_REPLY]
        end = _AFTER.search(piece, 1)
        found.append((match[1] or "", piece[: end.start()] if end else piece))
    return found


def _reply(host: str, piece: str) -> Reply:
    piece = piece[:_LONGEST_REPLY].strip()
    start = _CODE_FIRST.match(piece) or _first_code(piece)
    code = int(start[1]) if start else 0
    rest = piece[start.start(1) :] if start else piece
    found = _ENHANCED.search(rest) or _ENHANCED.search(piece)
    enhanced = found[1] if found else ""
    if code:
        # The later lines of a reply begin with the code, and often with the enhanced one, again.
        again = (
            rf"\n[ \t]*{code}[-, \t]?[ \t]*(?:{re.escape(enhanced)}[ \t]+)?"
            if enhanced
            else rf"\n[ \t]*{code}[-, \t]?"
        )
        rest = re.sub(again, " ", rest)
        # Logs and wrappers often put the code before a reply that has it already.
        rest = re.sub(rf"^{code}[ \t]+{code}(?=[-, \t])", str(code), rest)
    return Reply(code, enhanced, " ".join(rest.split()), host)


def _first_code(piece: str) -> re.Match[str] | None:
    """The first code that an enhanced code follows, else the first at all."""
    first = None
    for match in _CODE.finditer(piece):
        first = first or match
        if _ENHANCED.match(piece, match.end() + 1):
            return match
    return first
