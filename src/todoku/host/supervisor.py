"""supervisord through its own XML-RPC interface on a unix socket (supervisord.org/api.html): one call takes a
millisecond, where each supervisorctl would start a Python of its own.

The other end is root's, on this machine: what it says is trusted as much as supervisorctl would.
"""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from contextlib import suppress
from pathlib import Path
from typing import Any

from todoku.host.client import HostError

SOCKET = "/run/supervisor.sock"
_BAD_NAME = 10  # supervisor.xmlrpc.Faults
_NOT_RUNNING = 70
_TIMEOUT = 90.0  # seconds: stopping a program may take its stopwaitsecs


class SupervisorError(HostError):
    """supervisord could not be reached, or refused. The message says what was asked of it."""


class Supervisor:
    """One supervisord, by the path of its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def answers(self) -> bool:
        try:
            self._call("getState")
        except SupervisorError:
            return False
        return True

    def pid(self, program: str) -> int | None:
        """The number of the process, 0 when it does not run, None when supervisord does not know the program."""
        try:
            return int(self._call("getProcessInfo", program)["pid"])
        except _UnknownProgramError:
            return None

    def restart(self, program: str) -> None:
        """Take in a new or changed section, and start the program anew. It is not waited for."""
        added, changed, _removed = self._call("reloadConfig")[0]
        if program in changed:
            self._call("stopProcessGroup", program, True)
            self._call("removeProcessGroup", program)
        if program in (*added, *changed):
            self._call("addProcessGroup", program)  # which starts it, by autostart
            return
        with suppress(_NotRunningError):
            self._call("stopProcess", program, True)
        self._call("startProcess", program, False)

    def remove(self, program: str) -> None:
        """Stop a program whose section is gone, and forget it."""
        with suppress(_UnknownProgramError):
            self._call("stopProcessGroup", program, True)
            self._call("removeProcessGroup", program)

    def said(self, program: str, octets: int = 2000) -> str:
        """The end of what the program wrote to its standard streams."""
        try:
            return str(self._call("tailProcessStdoutLog", program, 0, octets)[0])
        except SupervisorError:
            return ""

    def _call(self, method: str, *arguments: Any) -> Any:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(self._path))
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            kind = {_BAD_NAME: _UnknownProgramError, _NOT_RUNNING: _NotRunningError}.get(
                fault.faultCode, SupervisorError
            )
            raise kind(
                f"supervisord refused {method} {' '.join(map(str, arguments))}: {fault.faultString}"
            ) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"supervisord does not answer at {self._path}: {error}") from error


class _UnknownProgramError(SupervisorError):
    pass


class _NotRunningError(SupervisorError):
    pass


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, _host: object) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(str(self._path))
