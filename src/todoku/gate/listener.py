"""The gate's socket: bound under another name and moved into place, so that there is no moment without one."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

MODE = 0o660
BACKLOG = 512


class CannotListen(Exception):
    """The socket cannot be made; the message says what to do."""


def listen(path: Path, group: str | None) -> socket.socket:
    """A listening unix socket at `path`, mode 0660, of `group` (None: leave it). An old one there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        before = os.umask(0o777 & ~MODE)
        try:
            listener.bind(str(fresh))
        finally:
            os.umask(before)
        if group is not None:
            _give(fresh, group)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        fresh.rename(path)
    except OSError as error:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise CannotListen(
            f"cannot make the socket {path}: {error}; its folder has to exist and to be writable for this user "
            '("todoku apply" prepares it)'
        ) from error
    except CannotListen:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def _give(path: Path, group: str) -> None:
    """The mail server's group has to reach the socket; in a set-group-id folder it already does."""
    try:
        wanted = grp.getgrnam(group).gr_gid
    except KeyError:
        raise CannotListen(
            f'there is no group "{group}" that could use the socket: is Postfix installed?'
        ) from None
    if path.stat().st_gid != wanted:
        os.chown(path, -1, wanted)
