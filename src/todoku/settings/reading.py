"""From a file to `Settings`, or to a `SettingsError` that says everything that is wrong with it."""

from __future__ import annotations

import errno
import tomllib
from pathlib import Path

from pydantic import ValidationError

from todoku.settings import syntax
from todoku.settings.models import Settings
from todoku.settings.problems import Fault, Problem, SettingsError, dotted

DEFAULT_PATH = Path("/etc/todoku/todoku.toml")
_LARGEST = 1_000_000  # bytes; a thousand domains take a tenth of it


def load(path: Path = DEFAULT_PATH) -> Settings:
    """The settings in the file at `path`. Raises `SettingsError`."""
    return parse(_text(path), str(path))


def parse(text: str, file: str) -> Settings:
    """The settings in `text`, the content of `file` (only named in errors). Raises `SettingsError`."""
    if text.startswith("\ufeff"):
        raise _unusable(
            file,
            "begins with a byte order mark (EF BB BF)",
            "save it as UTF-8 without BOM; some editors add it",
            1,
        )
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError((syntax.problem(text, file, error),)) from None
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(_problems(document, error, text, file)) from None


def _problems(
    document: dict[str, object], error: ValidationError, text: str, file: str
) -> tuple[Problem, ...]:
    # Only wanted when something is wrong.
    from todoku.settings import diagnosis
    from todoku.settings.lines import Lines

    found = diagnosis.faults(document) or [
        diagnosis.from_pydantic(each, ()) for each in error.errors(include_url=False)
    ]
    lines = Lines(text)

    def problem(fault: Fault) -> Problem:
        # A key that is missing from the top of the file has to be added there.
        return Problem(file, lines.find(fault.path) or 1, dotted(fault.path), fault.message, fault.fix)

    return tuple(sorted(map(problem, found), key=lambda problem: problem.line or 0))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise _unusable(
            path,
            "does not exist",
            f"begin with `todoku settings example > {path}`, then change what differs for you",
        ) from None
    except IsADirectoryError:
        raise _unusable(
            path, "is a directory, not a file", f"name the file in it, for example {path}/todoku.toml"
        ) from None
    except PermissionError:
        raise _unusable(path, "may not be read by this user", "run it as root (sudo)") from None
    except (OSError, ValueError) as error:
        code = error.errno if isinstance(error, OSError) else errno.EINVAL
        raise _unusable(
            path, f"cannot be read: {errno.errorcode.get(code or 0)}, {error}", "check the path"
        ) from None
    if len(content) > _LARGEST:
        raise _unusable(
            path, f"is larger than {_LARGEST} bytes", "name a settings file; this is something else"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise _unusable(
            path,
            "is UTF-16, not UTF-8"
            if utf16
            else f"is not UTF-8: the byte {content[error.start]:#04x} on this line",
            f"save it as UTF-8, for example with `iconv -f {'UTF-16' if utf16 else 'CP932'} -t UTF-8`",
            1 if utf16 else line,
        ) from None


def _unusable(file: Path | str, message: str, fix: str, line: int | None = None) -> SettingsError:
    return SettingsError((Problem(str(file), line, "", message, fix),))
