"""One sender at a time: what another one has leased must not be taken for left behind.

With SQLite a lock on a file beside the database, which ends with the process; with PostgreSQL an advisory lock, which
ends with its connection.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from todoku.store import StoreError

_NUMBER = 7_063_658  # of the advisory lock; nobody else in this database has one
Release = Callable[[], None]


def hold(engine: Engine) -> Release | None:
    """None: somebody else sends. Raises `StoreError`."""
    return _file(Path(str(engine.url.database))) if engine.dialect.name == "sqlite" else _advisory(engine)


def _file(database: Path) -> Release | None:
    path = database.with_name("sender.lock")
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


def _advisory(engine: Engine) -> Release | None:
    try:
        connection = engine.connect()
        got = connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": _NUMBER}).scalar()
        connection.commit()
    except DBAPIError as error:
        raise StoreError(f"the campaign database could not be used: {error.orig}") from error
    if got:
        # Not back into the pool: the lock is the connection's.
        connection.detach()
        return lambda: _give_back(connection)
    connection.close()
    return None


def _give_back(connection: Connection) -> None:
    """By a statement: of a connection that is merely closed the server may hear some milliseconds later."""
    try:
        connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": _NUMBER})
        connection.commit()
    except DBAPIError:
        pass  # the connection is gone, and the lock with it
    finally:
        connection.close()
