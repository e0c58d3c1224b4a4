"""What is in an archive, shown to clamd one file after the other, in one session (`todoku.gate.clamd` has the
protocol).

Blocks: it runs in the thread in which the archive is looked into.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from todoku.gate import clamd
from todoku.gate.clamd import ClamdError, Verdict
from todoku.gate.scanner import SOCKET

_SECONDS = 60.0  # for one answer; clamd gives up before
_READ = 4096


class Session:
    """One with clamd. ClamdError when it gives no verdict."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._number = 0
        self._replies = clamd.Replies()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS)
        try:
            self._socket.connect(str(path))
            self._socket.sendall(clamd.BEGIN_SESSION)
        except OSError as problem:
            self._socket.close()
            raise ClamdError(f"{path}: {problem}") from problem

    def scan(self, pieces: Iterable[bytes]) -> Verdict:
        """All of `pieces` is taken, whatever clamd says of the first."""
        self._number += 1
        pieces = iter(pieces)
        try:
            for octets in chain(clamd.stream(pieces)):
                self._socket.sendall(octets)
        except OSError as problem:  # it may have said why before it closed the connection
            for _ in pieces:
                pass
            return self._verdict(problem)
        return self._verdict()

    def _verdict(self, broken: OSError | None = None) -> Verdict:
        try:
            while octets := self._socket.recv(_READ):
                if replies := self._replies.receive(octets):
                    return clamd.verdict(replies[0], self._number)
        except OSError as problem:
            raise ClamdError(str(problem)) from problem
        raise ClamdError(str(broken or "clamd closed the connection without an answer"))

    def close(self) -> None:
        self._socket.close()


Begin = Callable[[], Session]
