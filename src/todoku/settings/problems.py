"""What can be wrong with a settings file, as values: where, what was found, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

WrongValueError = PydanticCustomError  # what a validator raises
KeyPath = tuple[str | int, ...]  # a place in the document: ("domains", 0, "name")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at a place in the document, before it is known in which file and line that is."""

    path: KeyPath
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. `line` counts from 1 (None: the file as a whole); `key` is dotted, or empty."""

    file: str
    line: int | None
    key: str
    message: str
    fix: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        fix = f"\n    fix: {self.fix}" if self.fix else ""
        return f"{where}:{key} {self.message}{fix}"

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "message": self.message,
            "fix": self.fix,
        }


class SettingsError(Exception):
    """The settings cannot be used; `problems` says everything that is wrong, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def wrong(message: str, fix: str) -> WrongValueError:
    """The error for a validator to raise; `fix` says what to write instead."""
    return WrongValueError("todoku", "{message}", {"message": message, "fix": fix})


def dotted(path: KeyPath) -> str:
    """`path` as people write it: domains[0].name"""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
