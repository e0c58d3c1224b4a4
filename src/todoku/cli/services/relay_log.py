"""The relay's own log, from the cloud's search into files that the agent reads.

A record can be found only some time after it was written, and not in order. So each look goes back a while behind the
last one (`OVERLAP`), and some go back further: the less likely it is that a record is that late, the more seldom
(`DEEPER`). One that is a day late is found within four hours; all together each is read some fifty times, and less than
half of that by the deeper looks. What was seen before is not written again. How far we are is kept after the records
are on the disk: whoever is killed in between writes some of them a second time, and the agent takes each only once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger("todoku.relay")

NAME = "log"  # of the files: log-20261124T13
POSITION = "log-position.json"
OVERLAP = 30 * 60.0  # seconds
DEEPER = (
    (4 * 3600.0, 15 * 60.0),
    (29 * 3600.0, 4 * 3600.0),
)  # seconds back, and from one such look to the next
FIRST = 86_400.0  # seconds back, at the very first time
LONGEST_BACK = 13.9 * 86_400.0  # a search covers 14 days at most
_SPAN = 86_400.0  # seconds in one search
_KEPT = 7 * 86_400.0  # seconds that a file is kept for an agent that is away
_LONGEST = 64 * 1024  # bytes of one record
_MOST_SEEN = (
    1_000_000  # records that are remembered: some 150 MB; beyond that the agent alone tells them apart
)

# The records between two moments (seconds since 1970), in pages.
Records = Callable[[float, float], Iterable[Sequence[Any]]]


class RelayLog:
    """`own` is called with each new file before it gets its name: for owner and mode."""

    def __init__(
        self, folder: Path, own: Callable[[Path], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._own, self._clock = folder, own, clock
        self._seen: dict[bytes, float] = {}  # a digest of the record's name, and the last look that met it
        self._file = ""

    def fetch(self, records: Records) -> int:
        """Reads what is new; how many records. What `records` raises, and OSError: then it is read again."""
        now = self._clock()
        until, looked = self._known(now)
        back = [OVERLAP, *(back for back, every in DEEPER if not 0 <= now - looked.get(back, 0.0) < every)]
        start = max(min(until - OVERLAP, now - max(back)), now - LONGEST_BACK)
        written = 0
        while start < now:
            end = min(start + _SPAN, now)
            for page in records(start, end):
                written += self._write(page, now)
            until = max(until, end)
            self._keep(until, looked)
            start = end
        self._keep(until, looked | dict.fromkeys(back, now))
        self._forget(now)
        self._remove_old(now)
        return written

    def _forget(self, now: float) -> None:
        """What no look meets any more; and all of it where there is too much."""
        longest = max(every for _, every in DEEPER)
        self._seen = {key: met for key, met in self._seen.items() if now - met <= 2 * longest}
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()

    def _known(self, now: float) -> tuple[float, dict[float, float]]:
        """How far the log was read, and when which of the deeper looks was last taken."""
        start = now - FIRST + OVERLAP
        try:
            kept = json.loads((self._folder / POSITION).read_bytes())
            until = float(kept["until"])
            looked = {float(back): float(when) for back, when in kept.get("looked", {}).items()}
        except FileNotFoundError:
            return start, {back: now for back, _ in DEEPER}
        except (ValueError, KeyError, TypeError, AttributeError):
            log.error("%s cannot be understood: the log is read from a day ago", POSITION)
            return start, {}
        return min(until, now), looked

    def _keep(self, until: float, looked: dict[float, float]) -> None:
        fresh = self._folder / f"{POSITION}.new"
        fresh.write_text(json.dumps({"until": until, "looked": looked}))
        fresh.replace(self._folder / POSITION)

    def _write(self, page: Sequence[Any], now: float) -> int:
        lines: dict[bytes, bytes] = {}
        for found in page:
            name, line = _line(found)
            key = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).digest()
            if key in self._seen:
                self._seen[key] = now
            elif line:
                lines[key] = line
        if lines:
            self._append(b"".join(lines.values()), now)
            self._seen.update(dict.fromkeys(lines, now))
        return len(lines)

    def _append(self, octets: bytes, now: float) -> None:
        """On the disk when it returns."""
        path = self._folder / self._name(now)
        if not path.exists():
            fresh = self._folder / f".{NAME}.new"
            fresh.write_bytes(b"")
            self._own(fresh)
            fresh.rename(path)
        with path.open("ab+") as file:
            if file.tell() and not _ends_a_line(file):
                octets = b"\n" + octets  # what a full disk has cut
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())

    def _name(self, now: float) -> str:
        """Never one before the last: the agent would not look at it any more."""
        name = datetime.fromtimestamp(now, UTC).strftime(f"{NAME}-%Y%m%dT%H")
        self._file = max([name, self._file, *(path.name for path in self._files())])
        return self._file

    def _files(self) -> Iterator[Path]:
        return self._folder.glob(f"{NAME}-[0-9]*T[0-9]*")

    def _remove_old(self, now: float) -> None:
        oldest = datetime.fromtimestamp(now - _KEPT, UTC).strftime(f"{NAME}-%Y%m%dT%H")
        for path in self._files():
            if path.name < oldest:
                with suppress(FileNotFoundError):
                    path.unlink()


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _line(found: Any) -> tuple[str, bytes]:
    """The record's name, and its line; no line where it is none, or too long a one."""
    content = found.get("logContent") if isinstance(found, dict) else None
    if not isinstance(content, dict):
        return "", b""
    given = content.get("id")
    written = json.dumps(content, sort_keys=True, default=str)
    key = given if isinstance(given, str) and 0 < len(given) <= 200 else ""
    key = key or hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()
    line = json.dumps({"id": key, "record": content}, default=str).encode() + b"\n"
    if len(line) > _LONGEST:
        log.warning("a record of the relay's log is too long, and passed over: %s", key)
        return key, b""
    return key, line
