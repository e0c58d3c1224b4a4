"""The ledger's database: SQLite in a file of its own, or PostgreSQL; the same tables and the same code.

A file of its own because of who writes it: the agent, which reads logs that strangers can write into, and has no
business with the password hashes in the other one. Other databases are kept like it: their `Place` says which.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from todoku.settings import Settings
from todoku.store import postgresql, postgresql_copy
from todoku.store.database import StoreError, StoreMissingError, StoreNewerError, StoreOlderError
from todoku.store.database import StoreUnusableError as Unusable
from todoku.store.migrating import copy_path, keep_a_copy
from todoku.store.place import FILE, OWNER, Place

PASSWORD = Path("/var/lib/todoku/ledger-password")  # a copy of the administrator's, for OWNER
_LEDGER = Place()
_WAIT_SECONDS = 30  # for another process's transaction
_MIGRATES_SECONDS = (
    3600  # at most, with the copy, for one statement: a server that said nothing before is given up
)
_READS, _PLACE = "todoku_reads", "todoku_place"


def place_of(settings: Settings) -> Place:
    """Where the ledger is."""
    wanted = settings.ledger
    return Place(
        wanted.database or str(FILE), password_file=wanted.database_password_file, password_copy=PASSWORD
    )


@contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Root opens and makes files here with the rights of the folder's owner, and for that owner.

    The folder is the agent's, which reads what strangers write: a link that it might be made to put there must not
    lead root anywhere. setfsuid(2) is this thread's alone, unlike seteuid(2).
    """
    owner = folder.stat().st_uid if folder.exists() else 0
    if os.geteuid() != 0 or owner == 0:
        yield
        return
    import ctypes

    libc = ctypes.CDLL(None)
    libc.setfsuid(owner)
    try:
        if libc.setfsuid(-1) != owner:  # which only tells: there is no such user
            raise PermissionError(errno.EPERM, "this process may not take on the owner's rights (setfsuid)")
        yield
    finally:
        libc.setfsuid(0)


def open(place: Place = _LEDGER, *, kept: bool = False) -> Engine:
    """An engine for the ledger. Raises `StoreError`, also for any schema but the wanted one.

    `kept`: its connections stay open from one transaction to the next, which saves a millisecond for each. It must not
    be used before a fork and after it.
    """
    current = current_revision(place)
    if current is None:
        raise StoreMissingError(f"{place.shown} is not there yet: run `todoku apply` first, which makes it")
    if current != wanted_revision(place):
        _refuse_revision(place, current)
    return _engine(place, kept=kept)


def migrate(place: Place = _LEDGER) -> None:
    """Make the ledger, or bring it to the wanted schema: all or nothing. Raises `StoreError`.

    A new file belongs to whom its folder belongs to. What is there already is copied first, beside it: a file (see
    `migrating`), and the tables in PostgreSQL (see `postgresql_copy`).
    """
    current = current_revision(place)
    if current is not None and current not in place.migrations.known():
        _refuse_revision(place, current)
    if place.file is not None:
        _make_file(place, place.file)
        if current is not None and current != wanted_revision(place):
            _keep_a_copy(place, place.file, current)
    engine = _engine(place, wait=_MIGRATES_SECONDS if place.file is None else _WAIT_SECONDS)
    try:
        with write(engine) as connection:
            if place.file is None:
                _copy_tables(place, connection)
            place.migrations.upgrade(connection)
    finally:
        engine.dispose()


def _copy_tables(place: Place, connection: Connection) -> None:
    postgresql_copy.wait_for_others(connection)
    current = _revision_in(place, connection)  # which another machine may have changed by now
    if current is None or current == wanted_revision(place):
        return
    if current not in place.migrations.known():
        _refuse_revision(place, current)
    postgresql_copy.keep_a_copy(place, connection, current)


def _make_file(place: Place, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with as_owner_of(file.parent):
            # The journals beside it (-wal, -shm) get the mode and the owner of the file itself.
            os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unusable(f"{place.shown} cannot be made: {error.strerror}: {_advice(place)}") from error


def _keep_a_copy(place: Place, file: Path, current: str) -> None:
    try:
        with as_owner_of(file.parent):
            keep_a_copy(file, current)
    except (sqlite3.Error, OSError) as error:
        raise Unusable(
            f"{place.shown} was not migrated, as no copy of it could be made first: {error}: {_advice(place)}"
        ) from error


def current_revision(place: Place = _LEDGER) -> str | None:
    """The schema of the ledger; None when there is none yet. Raises `StoreUnusableError`."""
    file = place.file
    if file is not None and (not file.exists() or file.stat().st_size == 0):
        return None
    engine = _engine(place)
    try:
        with read(engine) as connection:
            return _revision_in(place, connection)
    finally:
        engine.dispose()


def _revision_in(place: Place, connection: Connection) -> str | None:
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise Unusable(f"{place.shown} is a database, but not one of Todoku's: name another one")
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def copy_of(place: Place, revision: str) -> str:
    """What a migration calls the copy that it takes of the database while that has the schema `revision`."""
    if place.file is not None:
        return str(copy_path(place.file, revision))
    return f"{postgresql_copy.copy_name(place.migrations, revision)} in the same database"


def wanted_revision(place: Place = _LEDGER) -> str:
    """The schema that this version of Todoku works with."""
    return place.migrations.wanted()


def _refuse_revision(place: Place, current: str) -> None:
    if current in place.migrations.known():
        raise StoreOlderError(
            f"{place.shown} has the schema {current}, and this version of Todoku needs {wanted_revision(place)}: "
            "run `todoku apply`, which migrates it and keeps what is in it"
        )
    raise StoreNewerError(
        f"{place.shown} has the schema {current}, which this version of Todoku (up to {wanted_revision(place)}) "
        "does not know: it was made by a later version. Install that one again"
    )


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: one state of everything, waiting for nobody. Raises `StoreError`."""
    with _transaction(engine, reads=True) as connection:
        yield connection


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back by any exception. Raises `StoreError`."""
    with _transaction(engine, reads=False) as connection:
        yield connection


_CUT_OFF = (TimeoutError, ConnectionError)  # which pg8000 lets through as they are


@contextmanager
def _begun(engine: Engine, *, reads: bool) -> Iterator[Connection]:
    """Raises DBAPIError, and StoreUnusableError where it is not known what was done."""
    try:
        with engine.connect().execution_options(**{_READS: reads}) as connection:
            transaction = connection.begin()
            try:
                yield connection
                transaction.commit()
            except _CUT_OFF:
                # An answer that comes too late would be taken for that to the next question.
                connection.invalidate()
                raise
            except BaseException:
                transaction.rollback()
                raise
    except _CUT_OFF as error:
        place: Place = engine.get_execution_options()[_PLACE]
        raise Unusable(
            f"{place.shown} could not be used: {str(error) or 'no answer'}. Whether the last change was made is not "
            f"known: {_advice(place)}"
        ) from error


@contextmanager
def _transaction(engine: Engine, *, reads: bool) -> Iterator[Connection]:
    try:
        with _begun(engine, reads=reads) as connection:
            yield connection
    except DBAPIError as error:
        place: Place = engine.get_execution_options()[_PLACE]
        raise Unusable(
            f"{place.shown} could not be used: {postgresql.said(error)}. Nothing was changed: {_advice(place, error)}"
        ) from error


def _advice(place: Place, error: DBAPIError | None = None) -> str:
    if place.file is None:
        return postgresql.advice(place, error)
    return (
        f"look whether the disk is full (df {place.file.parent}) or mounted read-only, and whether the file "
        "may be used by you"
    )


def _engine(place: Place, *, kept: bool = False, wait: float = _WAIT_SECONDS) -> Engine:
    url = place.url()
    if place.file is None:
        # A server that was away in between is no error, and one that does not answer is none for ever.
        options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"timeout": wait}}
    else:
        options = {
            "poolclass": QueuePool if kept else NullPool,
            "connect_args": {"timeout": wait, "check_same_thread": False},
        }
    try:
        engine = create_engine(url, execution_options={_PLACE: place}, **options)
    except ImportError as error:
        raise Unusable(
            f"{place.shown} needs pg8000, which is not installed ({error}): pip install 'todoku[postgresql]'"
        ) from error
    if place.file is not None:
        event.listen(engine, "do_connect", _connect)
        event.listen(engine, "begin", _begin)
    else:
        event.listen(
            engine, "do_connect", lambda dialect, _, *given: postgresql.connect(place, dialect, *given)
        )
    return engine


def for_asyncpg(engine: Engine) -> dict[str, Any]:
    """What asyncpg.connect() needs for the database of `engine`. Raises StoreUnusableError."""
    place: Place = engine.get_execution_options()[_PLACE]
    return postgresql.for_asyncpg(place, engine.url)


def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    try:
        with as_owner_of(Path(arguments[0]).parent):
            opened = dialect.connect(*arguments, **options)
            opened.isolation_level = None  # the driver begins no transactions of its own: `_begin` does
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                opened.execute(f"PRAGMA {pragma}")
            opened.execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the journals as well
            return opened
    except OSError as error:
        raise Unusable(f"{arguments[0]} could not be opened: {error.strerror}") from error


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


__all__ = [
    "FILE",
    "OWNER",
    "PASSWORD",
    "Place",
    "StoreError",
    "copy_of",
    "current_revision",
    "for_asyncpg",
    "migrate",
    "open",
    "place_of",
    "read",
    "wanted_revision",
    "write",
]
