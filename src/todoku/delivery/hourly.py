"""Files of lines, one for each hour ("NAME-20261124T13"), that another process appends to: read in order, each to its
end, and where we are is told as "NAME OFFSET"."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

_DIGIT = "[0-9]"
_HOURS = f"-{_DIGIT * 8}T{_DIGIT * 2}"
_AT_ONCE = 256 * 1024  # bytes
_HOUR = 3600.0
_LATE = 30.0  # seconds after the hour in which the writer may still write to the old file


class HourlyFiles:
    """`position` is "NAME OFFSET", or None at the very first time."""

    def __init__(
        self,
        folder: Path,
        name: str,
        position: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        at, _, offset = (position or " 0").partition(" ")
        self._folder, self._pattern, self._clock = folder, f"{name}{_HOURS}", clock
        self._hour = len(name) + 1  # where the digits begin
        self._name, self._offset = at, int(offset)

    @property
    def position(self) -> str:
        return f"{self._name} {self._offset}"

    def read(self) -> bytes:
        """The next whole lines; empty when there are no more now. OSError."""
        for path in self._files():
            if path.name != self._name:
                self._name, self._offset = path.name, 0
            octets = self._piece(path)
            if octets:
                self._offset += len(octets)
                return octets
            if not self._is_over(path):
                break
        return b""

    def forget(self) -> None:
        """Removes the files that were read to their end, once that has been committed."""
        for path in self._files(from_the_first=True):
            if path.name >= self._name:
                break
            with suppress(FileNotFoundError):
                path.unlink()

    def _files(self, *, from_the_first: bool = False) -> list[Path]:
        found = sorted(self._folder.glob(self._pattern))
        return found if from_the_first else [path for path in found if path.name >= self._name]

    def _piece(self, path: Path) -> bytes:
        """Whole lines from where we are."""
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                octets = file.read(_AT_ONCE)
        except FileNotFoundError:
            return b""
        return octets[: octets.rfind(b"\n") + 1]

    def _is_over(self, path: Path) -> bool:
        """Whether the hour of the file's name has passed, so that nothing more is written to it."""
        digits = path.name[self._hour :]
        try:
            began = datetime.strptime(digits, "%Y%m%dT%H").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return True
        return self._clock() > began + _HOUR + _LATE
