"""Which changes their watchers have not followed yet.

A service is restarted because a file changed *in this run*. If the run dies between the two, the next one
sees a file that is as it should be and a service that runs: nothing would ever restart it. So each change is
noted before it is made, and each watcher that has followed afterwards. The journal belongs on a file system
that a reboot clears (/run): after a reboot every service has read its files anyway.

One JSON array per line, only ever appended to; an incomplete line (the run was killed) is ignored.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Set
from pathlib import Path
from threading import Lock


class Journal:
    """The changes noted so far, in memory, and in the file `path` if there is one. Safe between threads."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = Lock()
        self._changed: dict[str, int] = {}
        self._followed: dict[str, int] = {}
        self._count = 0
        for kind, name in _lines(path):
            self._take(kind, name)

    def owed(self, watcher: str, watches: Set[str]) -> frozenset[str]:
        """Those of `watches` that changed after `watcher` last followed."""
        with self._lock:
            since = self._followed.get(watcher, 0)
            return frozenset(name for name in watches if self._changed.get(name, 0) > since)

    def changed(self, name: str) -> None:
        """Note that `name` is about to be changed. Raises OSError."""
        self._note("changed", name)

    def followed(self, watcher: str) -> None:
        """Note that `watcher` has brought in everything that it watches. Raises OSError."""
        self._note("followed", watcher)

    def clear(self) -> None:
        """Forget everything: all has been followed. Raises OSError."""
        with self._lock:
            self._changed.clear()
            self._followed.clear()
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def _note(self, kind: str, name: str) -> None:
        with self._lock:
            if self._path is not None:
                _append(self._path, json.dumps([kind, name]))
            self._take(kind, name)

    def _take(self, kind: str, name: str) -> None:
        self._count += 1
        (self._changed if kind == "changed" else self._followed)[name] = self._count


def _append(path: Path, line: str) -> None:
    text = f"\n{line}\n".encode()  # the line before may be incomplete
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def _lines(path: Path | None) -> list[tuple[str, str]]:
    if path is None or not path.exists():
        return []
    notes = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            kind, name = json.loads(line)
        except (ValueError, TypeError):
            continue
        notes.append((str(kind), str(name)))
    return notes
