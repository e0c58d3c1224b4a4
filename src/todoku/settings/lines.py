"""Where in a toml file each key stands, for errors to name the line: `tomllib` does not tell.

It reads text that `tomllib` has accepted, so it can rely on its being well-formed, and only follows the parts
that matter for places (TOML 1.0: keys, tables, arrays of tables, strings, arrays, inline tables).
"""

from __future__ import annotations

import bisect
import itertools
import re
import tomllib
from contextlib import suppress

from todoku.settings.problems import KeyPath

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'  # up to two quotation marks may stand before the closing three
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")  # numbers, dates, true and false

_DEEPEST = 20  # nothing in the settings is nested that much


class _LostError(Exception):
    """The text is not what the scanner took it for."""


class Lines:
    """The line, counted from 1, of every key and every member of a list in `text`."""

    def __init__(self, text: str) -> None:
        scanner = _Scanner(text)
        with suppress(_LostError, RecursionError):  # what was found until then is still true
            scanner.document()
        self._places = scanner.places

    def find(self, path: KeyPath) -> int | None:
        """The line of `path`, or else of what it is in (its table); None for the document itself."""
        while path:
            if path in self._places:
                return self._places[path]
            path = path[:-1]
        return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.places: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._last_index: dict[KeyPath, int] = {}  # of each array of tables

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        line = self._line()
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        names = self._key()
        self._at += 2 if array else 1
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._latest((*path, name))
            self.places.setdefault(path, line)
        path = (*path, names[-1])
        if array:
            self.places.setdefault(path, line)
            self._last_index[path] = self._last_index.get(path, -1) + 1
        path = self._latest(path)
        self.places[path] = line
        return path

    def _latest(self, path: KeyPath) -> KeyPath:
        """The member of an array of tables that the name of the array stands for in later headers."""
        return (*path, self._last_index[path]) if path in self._last_index else path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        names = self._key()
        path = table
        for name in names:
            path = (*path, name)
            self.places.setdefault(path, line)
        self.places[path] = line
        self._expect("=")
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        names = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at : self._at + 1] in ('"', "'"):
                names.append(str(tomllib.loads(f"key = {self._take(_STRING)}")["key"]))
            else:
                names.append(self._take(_BARE))
            self._skip(_SPACE)
            if self._text[self._at : self._at + 1] != ".":
                return names
            if len(names) > _DEEPEST:
                raise _LostError
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        start = self._text[self._at : self._at + 1]
        if start == "[":
            self._members("]", path)
        elif start == "{":
            self._members("}", path)
        else:
            self._take(_STRING if start in ('"', "'") else _SCALAR)

    def _members(self, end: str, path: KeyPath) -> None:
        """The members of an array, or the pairs of an inline table; both may have a comma at the end."""
        self._at += 1
        for index in itertools.count():
            self._skip(_BLANK)
            if self._text.startswith(end, self._at):
                break
            if end == "}":
                self._pair(path)
            else:
                self.places[(*path, index)] = self._line()
                self._value((*path, index))
            self._skip(_BLANK)
            if not self._text.startswith(end, self._at):
                self._expect(",")
        self._at += 1

    def _line(self) -> int:
        return bisect.bisect_left(self._ends, self._at) + 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if found := pattern.match(self._text, self._at):
            self._at = found.end()

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise _LostError
        self._at = found.end()
        return found[0]

    def _expect(self, character: str) -> None:
        self._skip(_SPACE)
        if not self._text.startswith(character, self._at):
            raise _LostError
        self._at += 1
