"""What a receiver found out about a message, as it wrote it into Authentication-Results (RFC 8601).

The large providers keep to the RFC in the main. What each writes in a way of its own is read as well: Microsoft leaves
out its name at the beginning, Yahoo writes "success", "dkim_pass" and "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_RESULT = re.compile(
    r"\s{0,20}([a-z][a-z0-9-]{0,30})\s{0,5}(?:/\s{0,5}\d{1,5}\s{0,5})?=\s{0,5}([a-z_]{1,20})\b", re.IGNORECASE
)
_PROPERTY = re.compile(r"\b([a-z]{1,20}\.[a-z-]{1,20})\s{0,5}=\s{0,5}\"?([^\s\";]{1,300})", re.IGNORECASE)
_YAHOO = {"success": "pass", "dkim_pass": "pass", "unknown": "none"}
_MOST_PARTS = 100
# Which domain a result is about: the first of these that is there.
_DOMAINS = ("header.d", "header.i", "smtp.mailfrom", "smtp.helo", "header.from")


@dataclass(frozen=True, slots=True)
class Result:
    """One mechanism's result: "dkim", "pass", and what it was about ("header.d": "hoge.example")."""

    method: str
    result: str
    properties: dict[str, str] = field(default_factory=dict)
    comment: str = ""  # what the receiver says of it in brackets

    @property
    def domain(self) -> str:
        """The domain that the result is about."""
        for name in _DOMAINS:
            value = self.properties.get(name, "").rpartition("@")[2].lower()
            if value and value != "none":  # Microsoft's word for "not signed"
                return value
        return ""


def results(value: str) -> list[Result]:
    """The results in an Authentication-Results field. Any text; never fails."""
    found = []
    for part, comment in _parts(value):
        if match := _RESULT.match(part):
            properties = {name.lower(): said for name, said in _PROPERTY.findall(part)}
            said = match[2].lower()
            found.append(Result(match[1].lower(), _YAHOO.get(said, said), properties, comment))
    return found


def _parts(value: str) -> Iterator[tuple[str, str]]:
    """What stands between semicolons, each without its comments, and these.

    RFC 5322 3.2.2: comments may be nested, and quoted strings may hold parentheses and semicolons.
    """
    text: list[str] = []
    comment: list[str] = []
    depth, quoted, escaped, number = 0, False, False, 0
    for char in value:
        into = comment if depth else text
        if escaped:
            escaped = False
            into.append(char)
        elif char == "\\":
            escaped = True
        elif char == '"' and not depth:
            quoted = not quoted
            text.append(char)
        elif char == "(" and not quoted:
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif char == ";" and not depth and not quoted:
            yield "".join(text), "".join(comment)
            text, comment, number = [], [], number + 1
            if number >= _MOST_PARTS:
                return
        else:
            into.append(char)
    yield "".join(text), "".join(comment)
