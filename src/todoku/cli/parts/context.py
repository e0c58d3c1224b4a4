"""What every command shares: which settings file, how to fail, how to print JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from todoku.settings import Settings

DONE, FAILED, USAGE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Context:
    """The global options, handed to every command as `ctx.obj`."""

    config: Path

    def settings(self) -> Settings:
        """The settings from the file; on an error they are explained and the program ends with code 2."""
        from todoku.settings import SettingsError, load

        try:
            return load(self.config)
        except SettingsError as error:
            _also_in_json({"ok": False, "problems": [problem.as_json() for problem in error.problems]})
            fail(str(error), USAGE)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Print `message` to standard error and end with `code`."""
    print(message, file=sys.stderr)
    raise SystemExit(code)


def print_json(value: Any) -> None:
    """Print `value` as one JSON object on one line, as the last line of standard output."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def require_root(what: str) -> None:
    """End with code 2 unless the process is root's."""
    if os.geteuid() != 0:
        message = f"{what} needs root: run it again with sudo."
        _also_in_json({"ok": False, "error": message})
        fail(message, USAGE)


def _also_in_json(value: dict[str, Any]) -> None:
    """Print `value` when --json was asked for: here no command's own option is at hand yet."""
    ours = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    if "--json" in ours:
        print_json(value)
