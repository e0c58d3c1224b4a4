"""Started as root, the gate gives all its rights up before it touches the first message.

The service manager would do that as well, but cannot where the Python that runs the gate lies in a folder that
only root may enter (a checkout below /root). So everything is imported first: what is loaded needs no file.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import pwd
import sys
from contextlib import suppress
from pathlib import Path

# Packages that import parts of themselves when those are first needed: codecs by charset, DNS types by number.
_LAZY = (
    "asyncio",
    "concurrent",
    "dkim",
    "dns",
    "email",
    "encodings",
    "idna",
    "sqlite3",
    "todoku.gate",
    "todoku.protect",
    "uvloop",
)
_WINDOWS = ("mbcs", "oem", "windows_events", "windows_utils", "cp65001")
_MAIL_CHARSETS = ("iso2022_jp", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr", "hz")
_PR_SET_NO_NEW_PRIVS = 38
_NAME = "todoku-gate"  # what ps(1) and top(1) show, and how `todoku apply` recognises it


class CannotBecome(Exception):
    """The user whom the gate should run as is not there; the message says what to do."""


def name_process() -> None:
    with suppress(OSError):
        Path("/proc/self/comm").write_text(_NAME)


def drop(user: str) -> None:
    """Become `user` for good, when this is root; nothing otherwise. Raises CannotBecome."""
    if os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CannotBecome(f'there is no user "{user}" to run as: "todoku apply" makes it') from None
    if not _may_read():
        _import_everything()
    _no_new_ones()
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def _no_new_ones() -> None:
    """No program that it might be made to start gets rights back (prctl(2)). systemd has seen to that already, and
    may forbid what ctypes needs."""
    with suppress(ImportError, OSError, AttributeError, MemoryError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _may_read() -> bool:
    """Whether others than root can enter where Python and this package lie."""
    places = [Path(place).resolve() for place in (os.__file__, sys.prefix, __file__)]
    folders = {folder for place in places for folder in (place, *place.parents) if folder.is_dir()}
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)


def _import_everything() -> None:
    for name in _LAZY:
        with suppress(ImportError):
            package = importlib.import_module(name)
            for found in pkgutil.walk_packages(
                getattr(package, "__path__", ()), f"{name}.", onerror=lambda _: None
            ):
                if not found.name.endswith((*_WINDOWS, "__main__")):
                    with suppress(ImportError):
                        importlib.import_module(found.name)
    for charset in _MAIL_CHARSETS:
        "".encode(charset)  # the compiled half of these codecs is a file of its own
