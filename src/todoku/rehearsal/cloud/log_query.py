"""The part of the Logging query language that is served here (Oracle's "Logging Query Language Specification"):

    search "COMPARTMENT[/GROUP[/LOG]]"[, ...] | [where] EXPRESSION | sort by datetime [asc|desc] | limit NUMBER

An expression compares fields of the record's content (type, source, data.action) by = and != with a text in single or
double quotes, joined by and, or and parentheses. Everything else is refused, as a mistake would be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ApiError, invalid

_TOKEN = re.compile(r"""\s*(?:([()])|(!=|=)|'([^']*)'|"([^"]*)"|([A-Za-z_][\w.]*))""")
_SCOPE = re.compile(r'"([^"]+)"')
_LONGEST = 10_000  # characters
_DEPTH = 50

Test = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Query:
    """`scopes`: paths of OCIDs, of which each record has to be in one; `tests` all have to hold for its content."""

    scopes: tuple[tuple[str, ...], ...]
    tests: tuple[Test, ...]
    newest_first: bool = False
    most: int | None = None


def parse(text: str) -> Query:
    """Raises `ApiError` 400, which says what is wrong."""
    if len(text) > _LONGEST:
        raise invalid("searchQuery is too long")
    first, *rest = (part.strip() for part in _stages(text))
    word, _, places = first.partition(" ")
    scopes = tuple(tuple(place.split("/")) for place in _SCOPE.findall(places))
    left = re.sub(r"[\s,]", "", _SCOPE.sub("", places))
    if word.lower() != "search" or not scopes or left or any(len(scope) > 3 for scope in scopes):
        raise invalid(f'searchQuery has to begin with search "COMPARTMENT/GROUP/LOG", not {first!r}')
    tests: list[Test] = []
    newest_first, most = False, None
    for stage in rest:
        if found := re.fullmatch(r"sort\s+by\s+datetime(?:\s+(asc|desc))?", stage, re.IGNORECASE):
            newest_first = (found[1] or "asc").lower() == "desc"
        elif found := re.fullmatch(r"limit\s+(\d{1,9})", stage, re.IGNORECASE):
            most = int(found[1])
        else:
            tests.append(_Expression(re.sub(r"^where\s+", "", stage, flags=re.IGNORECASE)).read())
    return Query(scopes, tuple(tests), newest_first, most)


def _stages(text: str) -> list[str]:
    """At bars that are not within quotes."""
    parts, quote = [""], ""
    for character in text:
        if character in "'\"":
            quote = "" if quote == character else quote or character
        if character == "|" and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts


class _Expression:
    """A recursive descent through one expression."""

    def __init__(self, text: str) -> None:
        self._text, self._place, self._depth = text, 0, 0

    def read(self) -> Test:
        test = self._either()
        if self._text[self._place :].strip():
            raise self._wrong()
        return test

    def _either(self) -> Test:
        tests = [self._both()]
        while self._word("or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda record: any(test(record) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._word("and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda record: all(test(record) for test in tests)

    def _one(self) -> Test:
        bracket, _, _, _, name = self._next()
        if bracket == "(":
            self._depth += 1
            if self._depth > _DEPTH:
                raise self._wrong()
            test = self._either()
            if self._next()[0] != ")":
                raise self._wrong()
            self._depth -= 1
            return test
        _, sign, _, _, _ = self._next()
        _, _, single, double, _ = self._next()
        wanted = single if single is not None else double
        if not name or not sign or wanted is None:
            raise self._wrong()
        path = tuple(name.removeprefix("logContent.").split("."))
        equal = sign == "="
        return lambda record: (_value(record, path) == wanted) is equal

    def _word(self, word: str) -> bool:
        found = _TOKEN.match(self._text, self._place)
        if found and (found[5] or "").lower() == word:
            self._place = found.end()
            return True
        return False

    def _next(self) -> tuple[str | None, ...]:
        found = _TOKEN.match(self._text, self._place)
        if not found:
            raise self._wrong()
        self._place = found.end()
        return found.groups()

    def _wrong(self) -> ApiError:
        return invalid(f"searchQuery cannot be understood: {self._text!r} at character {self._place}")


def _value(record: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    found: Any = record
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return None if found is None else str(found)
