"""The ledger's database: SQLite in a file of its own, or PostgreSQL; the same tables and the same code.

A file of its own because of who writes it: the agent, which reads logs that strangers can write into, and has no
business with the password hashes in the other one. With PostgreSQL no password is needed nor taken: who connects
is known by the socket ("peer" in pg_hba.conf). A server on another host has to show a certificate of its name (TLS, as
libpq's sslmode=verify-full); nothing is sent to it in the clear.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from todoku.store.database import StoreError, StoreMissingError, StoreNewerError, StoreOlderError
from todoku.store.database import StoreUnusableError as Unusable
from todoku.store.migrating import Migrations, keep_a_copy

OWNER = "todoku-agent"
FILE = Path("/var/lib/todoku/ledger/ledger.sqlite3")
_MIGRATIONS = Migrations(Path(__file__).parent / "ledger_migrations")
_WAIT_SECONDS = 30  # for another process's transaction
_READS, _PLACE = "todoku_reads", "todoku_place"
_SOCKETS = "/var/run/postgresql"  # where Debian's PostgreSQL listens


@dataclass(frozen=True, slots=True)
class Place:
    """Where the ledger is: a file, or "postgresql:///NAME" (with host and user, where they are not the usual ones).

    "?sslrootcert=FILE" names the authority (PEM) of a server on another host; otherwise it is one of the system's.

    Other databases that are kept like it say what they are called, whose they are, and their migrations."""

    where: str = str(FILE)
    name: str = "the ledger"
    owner: str = OWNER  # a user of the machine, and the role in PostgreSQL
    migrations: Migrations = _MIGRATIONS

    @property
    def file(self) -> Path | None:
        """The SQLite file, if it is one."""
        return None if "://" in self.where else Path(self.where)

    @property
    def shown(self) -> str:
        return f"{self.name} " + re.sub("://([^:/@]*):[^@]*@", r"://\1:...@", self.where)

    def url(self) -> URL:
        """Raises StoreUnusableError when it cannot be understood."""
        if self.file is not None:
            return URL.create("sqlite", database=str(self.file))
        try:
            given = make_url(self.where)
        except ArgumentError as error:
            raise Unusable(f"{self.shown} is no address of a database: {error}") from error
        if given.get_backend_name() != "postgresql" or given.password:
            raise Unusable(f'{self.shown} has to be a file or "postgresql:///NAME", without a password')
        # Others could be arguments of the driver: "?host=" would lead elsewhere than what is checked here.
        known = {"application_name", "sslrootcert" if given.host else "host"}
        if unknown := sorted(set(given.query) - known):
            raise Unusable(
                f"{self.shown} has the option {unknown[0]}, which is not taken here: only {', '.join(sorted(known))}"
            )
        url = given.set(drivername="postgresql+pg8000").difference_update_query(["sslrootcert"])
        if not url.host:  # libpq's way to name a folder of sockets: "?host=/var/run/postgresql"
            folder = url.query.get("host", _SOCKETS)
            url = url.difference_update_query(["host"])
            url = url.update_query_dict({"unix_sock": f"{folder}/.s.PGSQL.{url.port or 5432}"})
        return url if url.username else url.set(username=_user(self.owner))

    def tls(self) -> ssl.SSLContext | None:
        """What a server on another host is verified by; None for one that a socket or the loopback reaches.

        Raises StoreUnusableError."""
        host = self.url().host
        if host is None or _is_loopback(host):
            return None
        authority = make_url(self.where).query.get("sslrootcert")
        try:
            return ssl.create_default_context(cafile=str(authority) if authority else None)
        except OSError as error:
            raise Unusable(
                f"{self.shown}: the authority {authority} cannot be read: {error.strerror or error}: "
                "name a file with its certificate (PEM)"
            ) from error


def _is_loopback(host: str) -> bool:
    """By what is written: a name's address could be another one at the next look."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _user(owner: str) -> str:
    """Root asks as the user whom it belongs to, which pg_ident.conf has to allow: one role is enough then."""
    if os.geteuid() == 0:
        with suppress(KeyError):
            return pwd.getpwnam(owner).pw_name
    return pwd.getpwuid(os.geteuid()).pw_name


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
        yield
    finally:
        libc.setfsuid(0)


def open(place: Place = Place(), *, kept: bool = False) -> Engine:
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


def migrate(place: Place = Place()) -> None:
    """Make the ledger, or bring it to the wanted schema: all or nothing. Raises `StoreError`.

    A new file belongs to whom its folder belongs to. An older one is copied first, beside it (see `migrating`); of a
    database in PostgreSQL, its own tools make copies.
    """
    current = current_revision(place)
    if current is not None and current not in place.migrations.known():
        _refuse_revision(place, current)
    if place.file is not None:
        _make_file(place, place.file)
        if current is not None and current != wanted_revision():
            _keep_a_copy(place, place.file, current)
    engine = _engine(place)
    try:
        with write(engine) as connection:
            place.migrations.upgrade(connection)
    finally:
        engine.dispose()


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


def current_revision(place: Place = Place()) -> str | None:
    """The schema of the ledger; None when there is none yet. Raises `StoreUnusableError`."""
    file = place.file
    if file is not None and (not file.exists() or file.stat().st_size == 0):
        return None
    engine = _engine(place)
    try:
        with read(engine) as connection:
            tables = inspect(connection).get_table_names()
            if not tables:
                return None
            if "alembic_version" not in tables:
                raise Unusable(f"{place.shown} is a database, but not one of Todoku's: name another one")
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    finally:
        engine.dispose()


def wanted_revision(place: Place = Place()) -> str:
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
            f"{place.shown} could not be used: {error.orig}. Nothing was changed: {_advice(place)}"
        ) from error


def _advice(place: Place) -> str:
    if place.file is None and place.tls() is not None:
        return "look whether PostgreSQL runs there, has TLS (ssl = on), and whether this user may use that database"
    if place.file is None:
        return "look whether PostgreSQL runs, and whether this user may use that database"
    return (
        f"look whether the disk is full (df {place.file.parent}) or mounted read-only, and whether the file "
        "may be used by you"
    )


def _engine(place: Place, *, kept: bool = False) -> Engine:
    url = place.url()
    if place.file is None:
        # A server that was away in between is no error, and one that does not answer is none for ever.
        arguments: dict[str, Any] = {"timeout": _WAIT_SECONDS}
        if (verified_by := place.tls()) is not None:
            arguments["ssl_context"] = verified_by
        options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": arguments}
    else:
        options = {
            "poolclass": QueuePool if kept else NullPool,
            "connect_args": {"timeout": _WAIT_SECONDS, "check_same_thread": False},
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
        event.listen(engine, "do_connect", lambda *given: _connect_to_server(place, *given))
    return engine


def tls(engine: Engine) -> ssl.SSLContext | None:
    """What another driver has to verify the server of `engine` by, as `Place.tls`. Raises StoreUnusableError."""
    place: Place = engine.get_execution_options()[_PLACE]
    return place.tls()


def _connect_to_server(place: Place, dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    try:
        return dialect.connect(*arguments, **options)
    except ssl.SSLError as error:  # which the driver lets through as it is
        raise Unusable(
            f"{place.shown} could not be used: its server was not believed: {error}. Nothing was sent to it: use the "
            "name that is in its certificate, and ?sslrootcert=FILE for an authority that is not one of the system's"
        ) from error


def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    with as_owner_of(Path(arguments[0]).parent):
        opened = dialect.connect(*arguments, **options)
        opened.isolation_level = None  # the driver begins no transactions of its own: `_begin` does
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            opened.execute(f"PRAGMA {pragma}")
        opened.execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the journals as well
        return opened


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


__all__ = [
    "FILE",
    "Place",
    "StoreError",
    "current_revision",
    "migrate",
    "open",
    "read",
    "tls",
    "wanted_revision",
    "write",
]
