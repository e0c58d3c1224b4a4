"""One sender at a time with SQLite: what another one has leased must not be taken for left behind.

A lock on a file beside the database, which ends with the process. With PostgreSQL there may be several (`workers`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from todoku.store import StoreError

Release = Callable[[], None]


def hold(engine: Engine) -> Release | None:
    """None: somebody else sends. Raises `StoreError`."""
    path = Path(str(engine.url.database)).with_name("sender.lock")
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return lambda: os.close(number)
