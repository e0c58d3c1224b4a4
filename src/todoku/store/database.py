"""Opening, migrating and using the database file.

The file belongs to root alone (0600): password hashes are in it. Transactions that write begin with BEGIN
IMMEDIATE, so that two commands at once wait for each other at the start instead of failing in the middle, and
every commit reaches the disk (synchronous=FULL; in WAL mode NORMAL may lose the last ones with the power).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from todoku.store.migrating import Migrations, keep_a_copy

DEFAULT_PATH = Path("/var/lib/todoku/todoku.sqlite3")
_MIGRATIONS = Migrations(Path(__file__).parent / "migrations")
_WAIT_SECONDS = 30  # for another process's transaction
_IMMEDIATE = "todoku_immediate"


class StoreError(Exception):
    """The database cannot be used as it is. The message says what was found and what to do."""


class StoreMissingError(StoreError):
    """There is no database yet."""


class StoreOlderError(StoreError):
    """The database was made by an earlier version and has not been migrated."""


class StoreNewerError(StoreError):
    """The database was made by a later version than this one."""


class StoreUnusableError(StoreError):
    """The file is no database of ours, is damaged, or cannot be read or written."""


def open(path: Path = DEFAULT_PATH) -> Engine:
    """An engine for the database at `path`. Raises `StoreError`, also for any schema but the wanted one."""
    current = current_revision(path)
    if not path.exists():
        raise StoreMissingError(
            f"there is no database at {path} yet: run `todoku apply` first, which makes it"
        )
    if current != wanted_revision():
        _refuse_revision(path, current)
    return _engine(path)


def _refuse_revision(path: Path, current: str | None) -> None:
    if current is None or current in _MIGRATIONS.known():
        raise StoreOlderError(
            f"the database {path} has the schema {current or '(none)'}, and this version of Todoku needs "
            f"{wanted_revision()}: run `todoku apply`, which migrates it and keeps what is in it"
        )
    raise StoreNewerError(
        f"the database {path} has the schema {current}, which this version of Todoku (up to "
        f"{wanted_revision()}) does not know: it was made by a later version. "
        "Install that one again, or put a backup from before in place"
    )


def migrate(path: Path = DEFAULT_PATH) -> None:
    """Make the database at `path`, or bring it to the wanted schema: all or nothing. Raises `StoreError`.

    What is there already is copied first, beside it (see `migrating`).
    """
    current = current_revision(path)
    if current is not None and current not in _MIGRATIONS.known():
        _refuse_revision(path, current)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The journals beside it (-wal, -shm) get the mode of the database itself.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnusableError(
            f"the database {path} cannot be made: {error.strerror}: {_advice(path)}"
        ) from error
    if current is not None and current != wanted_revision():
        try:
            keep_a_copy(path, current)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnusableError(
                f"the database {path} was not migrated, as no copy of it could be made first: {error}: "
                f"{_advice(path)}"
            ) from error
    engine = _engine(path)
    try:
        with write(engine) as connection:
            _MIGRATIONS.upgrade(connection)
    finally:
        engine.dispose()


def current_revision(path: Path = DEFAULT_PATH) -> str | None:
    """The schema of the database at `path`; None when there is no database or nothing in it yet."""
    try:
        if not path.exists() or path.stat().st_size == 0:
            return None
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS)) as opened:
            return _revision_in(opened, path)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnusableError(f"the database {path} cannot be read: {error}: {_advice(path)}") from error


def _revision_in(opened: sqlite3.Connection, path: Path) -> str | None:
    tables = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise StoreUnusableError(
            f"{path} is a database, but not one of Todoku's (it holds {', '.join(sorted(tables)[:3])}): "
            "move it away, then run `todoku apply`"
        )
    found: tuple[str] | None = opened.execute("SELECT version_num FROM alembic_version").fetchone()
    return found[0] if found else None


def wanted_revision() -> str:
    """The schema that this version of Todoku works with."""
    return _MIGRATIONS.wanted()


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: one state of everything, waiting for nobody. Raises `StoreError`."""
    with _transaction(engine, immediate=False) as connection:
        yield connection


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back by any exception. Raises `StoreError`."""
    with _transaction(engine, immediate=True) as connection:
        yield connection


@contextmanager
def _transaction(engine: Engine, *, immediate: bool) -> Iterator[Connection]:
    path = Path(engine.url.database or "")
    try:
        with engine.connect().execution_options(**{_IMMEDIATE: immediate}) as connection, connection.begin():
            yield connection
    except DBAPIError as error:
        raise StoreUnusableError(
            f"the database {path} could not be used: {error.orig}. Nothing was changed: {_advice(path)}"
        ) from error


def _advice(path: Path) -> str:
    return (
        f"look whether the disk is full (df {path.parent}) or mounted read-only, whether {path} belongs to "
        "root, and whether another command is still running; if the file is damaged, put the last backup "
        "in place"
    )


def _engine(path: Path) -> Engine:
    # No pool: a command opens one connection, and nothing stays open after it.
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": _WAIT_SECONDS})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(opened: Any, _record: Any) -> None:
    opened.isolation_level = None  # the driver begins no transactions of its own: `_begin` does
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        opened.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
