"""The gate's records of what it decided (`todoku.gate.record`): files of lines of JSON, one for each hour.

They are read in order, each to its end; one whose hour is over is removed once what it says is in the ledger.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from todoku.delivery.entries import Decided

log = logging.getLogger("todoku.agent")

FOLDER = Path("/var/lib/todoku/exchange")
_DIGIT = "[0-9]"
_NAMES = f"decisions-{_DIGIT * 8}T{_DIGIT * 2}"
_DIGITS = (slice(10, 14), slice(14, 16), slice(16, 18), slice(19, 21))  # of the year, month, day, hour
_AT_ONCE = 256 * 1024  # bytes
_HOUR = 3600.0
_LATE = 30.0  # seconds after the hour in which the gate may still write to the old file


class Decisions:
    """`position` is "NAME OFFSET", or None at the very first time."""

    def __init__(
        self,
        folder: Path = FOLDER,
        position: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        name, _, offset = (position or " 0").partition(" ")
        self._folder, self._clock = folder, clock
        self._name, self._offset = name, int(offset)

    @property
    def position(self) -> str:
        return f"{self._name} {self._offset}"

    def read(self) -> list[Decided]:
        """The next records; none when there are no more now. OSError."""
        for path in self._files():
            if path.name != self._name:
                self._name, self._offset = path.name, 0
            octets = self._piece(path)
            if octets:
                self._offset += len(octets)
                return [decided for line in octets.split(b"\n") if (decided := _decided(line))]
            if not self._is_over(path):
                break
        return []

    def forget(self) -> None:
        """Removes the files that were read to their end, once that has been committed."""
        for path in self._files(from_the_first=True):
            if path.name >= self._name:
                break
            with suppress(FileNotFoundError):
                path.unlink()

    def _files(self, *, from_the_first: bool = False) -> list[Path]:
        found = sorted(self._folder.glob(_NAMES))
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
        year, month, day, hour = (int(path.name[place]) for place in _DIGITS)
        try:
            began = datetime(year, month, day, hour, tzinfo=UTC).timestamp()
        except ValueError:
            return True
        return self._clock() > began + _HOUR + _LATE


def _decided(line: bytes) -> Decided | None:
    if not line.strip():
        return None
    try:
        record = json.loads(line)
        return Decided(
            float(record["time"]),
            _text(record, "queue_id"),
            _text(record, "decision"),
            _text(record, "rule"),
            _text(record, "words"),
            _text(record, "login"),
            _text(record, "client"),
            _text(record, "sender"),
            _addresses(record.get("recipients", [])),
            _text(record, "message_id"),
            int(record["size"]),
            _text(record, "subject") if "subject" in record else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        log.warning("a record of the gate's cannot be understood: %.200r", line)
        return None


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name, "")
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _addresses(value: Sequence[Any]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError("recipients")
    return tuple(value)
