"""The agent gives its rights up before it reads the first line that a stranger has written.

Everything is imported before: the Python that runs it may lie in a folder that only root may enter.
"""

from __future__ import annotations

import grp
import importlib
import os
import pkgutil
import pwd
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

NAME = "todoku-agent"  # what ps(1) shows, and how `todoku apply` recognises it
_LAZY = (
    "ctypes",
    "email",
    "encodings",
    "pg8000",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.engine",
    "sqlalchemy.sql",
    "todoku.delivery",
    "todoku.settings",
    "todoku.store",
)
_NOT_HERE = ("mbcs", "oem", "cp65001")
_PR_SET_NO_NEW_PRIVS = 38


class CannotBecome(Exception):
    """The user whom the agent should run as is not there; the message says what to do."""


def name_process() -> None:
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)


def import_everything(more: Iterable[str] = ()) -> None:
    """All that may be imported later on; `more` by who has more than the agent."""
    for name in (*_LAZY, *more):
        with suppress(ImportError):
            package = importlib.import_module(name)
            path = getattr(package, "__path__", ())
            for found in pkgutil.walk_packages(path, f"{name}.", onerror=lambda _: None):
                if not found.name.endswith((*_NOT_HERE, "__main__")) and "migrations" not in found.name:
                    with suppress(ImportError):
                        importlib.import_module(found.name)


def drop(user: str, groups: Iterable[str] = ()) -> None:
    """Become `user` for good, with those of `groups` that exist. Raises CannotBecome."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CannotBecome(f'there is no user "{user}" to run as: "todoku apply" makes it') from None
    more = []
    for group in groups:
        with suppress(KeyError):
            more.append(grp.getgrnam(group).gr_gid)
    with suppress(ImportError, OSError, AttributeError, MemoryError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setgroups(more)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
