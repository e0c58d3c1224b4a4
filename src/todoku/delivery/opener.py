"""Who may open the mail log, and can do nothing else with it: the agent's parent, for its child.

Without a syslog daemon Postfix writes its log itself, for root alone. What reads it should not be root: strangers have
their words in it. So the agent is two processes. This one keeps its rights, knows the one log (and what was rotated
out of it), and hands out open files over a socket; the other has given its rights up, and does everything. The same
way Postfix is told to read its tables anew, which root alone may do.
"""

from __future__ import annotations

import io
import json
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import BinaryIO, cast

from todoku.delivery.follow import Folder, Found

_LONGEST = 256  # bytes of a request: a file's name
_ANSWER = 64 * 1024  # bytes
_MOST = 400  # files that belong to a log
_RELOAD = b"\n\n"  # no file's name
_RELOADS = ("postfix", "reload")
_PAUSE = 1.0  # seconds from one reload to the next


def serve(link: socket.socket, folder: Folder) -> None:
    """Answers until the other end is closed. A request is a file's name, or nothing for the list of files."""
    while True:
        try:
            request = link.recv(_LONGEST)
        except InterruptedError:
            continue
        if not request:
            return
        if request == _RELOAD:
            _reload(link)
            continue
        _answer(link, folder, request.decode("utf-8", "replace").strip("\n"))


def reload_postfix() -> None:
    """Has Postfix read its tables anew, which root alone may do. OSError."""
    try:
        done = subprocess.run(
            _RELOADS, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"{' '.join(_RELOADS)}: {error}") from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip() or "failed"
        raise OSError(f"{' '.join(_RELOADS)}: {words}")


def _reload(link: socket.socket) -> None:
    words = ""
    try:
        reload_postfix()
    except OSError as error:
        words = str(error)
    link.sendall(json.dumps(words[:1000]).encode())
    time.sleep(_PAUSE)  # whoever asks without end is kept waiting


def _answer(link: socket.socket, folder: Folder, name: str) -> None:
    try:
        found = folder.found()[:_MOST]
        if not name:
            link.sendall(json.dumps([astuple(each) for each in found]).encode())
            return
        if name not in {each.name for each in found}:  # above all: no way out of the folder
            raise FileNotFoundError(2, "no such log")
        with folder.open(name) as opened:
            socket.send_fds(link, [b"+"], [opened.fileno()])
    except OSError as error:
        link.sendall(json.dumps([error.errno or 0, error.strerror or str(error)]).encode() if name else b"[]")


class Borrowed:
    """`LogFiles` through the opener. `link` is a SOCK_SEQPACKET socket."""

    def __init__(self, link: socket.socket, name: str) -> None:
        self._link = link
        self.name = name

    def found(self) -> Sequence[Found]:
        self._link.sendall(b"\n")
        return [Found(*each) for each in json.loads(self._link.recv(_ANSWER))]

    def reload(self) -> None:
        """Has Postfix read its tables anew. OSError."""
        self._link.sendall(_RELOAD)
        answer = self._link.recv(_ANSWER)
        if words := json.loads(answer or b'"the opener is gone"'):
            raise OSError(words)

    def open(self, name: str) -> BinaryIO:
        self._link.sendall(name.encode()[: _LONGEST - 1] + b"\n")
        answer, files, _, _ = socket.recv_fds(self._link, _LONGEST * 2, 1)
        if not files:
            number, words = json.loads(answer or b'[5, "the opener is gone"]')
            raise OSError(number, words, name)  # OSError makes a FileNotFoundError of number 2
        return cast(BinaryIO, io.FileIO(files[0], "r"))
