"""The gate's records of what it decided (`todoku.gate.record`): files of lines of JSON, one for each hour.

They are read in order, each to its end; one whose hour is over is removed once what it says is in the ledger.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from todoku.delivery.entries import Decided
from todoku.delivery.hourly import HourlyFiles

log = logging.getLogger("todoku.agent")

FOLDER = Path("/var/lib/todoku/exchange")


class Decisions:
    """`position` is "NAME OFFSET", or None at the very first time."""

    def __init__(
        self,
        folder: Path = FOLDER,
        position: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = HourlyFiles(folder, "decisions", position, clock)

    @property
    def position(self) -> str:
        return self._files.position

    def read(self) -> list[Decided]:
        """The next records; none when there are no more now. OSError."""
        lines = self._files.read().split(b"\n")
        return [decided for line in lines if (decided := _decided(line))]

    def forget(self) -> None:
        """Removes the files that were read to their end, once that has been committed."""
        self._files.forget()


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
