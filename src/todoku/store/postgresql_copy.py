"""The copy that is taken of a database in PostgreSQL before it leaves its schema: the tables again, beside the others.

They are in a PostgreSQL schema of their own ("todoku_copy_ledger_0002"), made by the same migrations as those that are
copied, so keys, indexes and sequences are there as well: who goes back exchanges the tables, as docs/database.md says.
`pg_dump` would have to be installed, of a version that the server agrees with. All of it happens in the transaction of
the migration: there is never a copy that is not whole, and never a changed database without one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from todoku.store.database import StoreUnusableError as Unusable
from todoku.store.migrating import COPIES, Migrations
from todoku.store.place import Place
from todoku.store.postgresql import advice, said

_LOCK = 0x746F646F6B75  # "todoku": of all who migrate a database, which an advisory lock is for
_VERSION = "alembic_version"
_MARK = "Todoku's copy of"  # how the comment on a copy begins: nothing else is ever dropped


@dataclass(frozen=True, slots=True)
class _Copy:
    name: str
    source: str  # the schema that it was made of
    made: str  # ISO 8601, UTC


def copy_name(migrations: Migrations, revision: str) -> str:
    """The schema in PostgreSQL that holds the copy of a database as it was at `revision`."""
    return f"todoku_copy_{migrations.kind}_{revision}"


def wait_for_others(connection: Connection) -> None:
    """One migrates, until the end of the transaction; whoever comes second sees what the first one has done."""
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if connection.scalar(text(f"SELECT to_regclass('{_VERSION}') IS NOT NULL")):
        # Earlier versions of Todoku know nothing of that lock. Who only asks for the schema waits for nobody.
        connection.exec_driver_sql(f"LOCK TABLE {_VERSION} IN EXCLUSIVE MODE")


def keep_a_copy(place: Place, connection: Connection, revision: str) -> None:
    """Copy the tables as they are, before they leave the schema `revision`; nobody writes to them until the end.

    `connection` is in the migration's transaction. Raises StoreUnusableError, after which that has to be rolled back.
    """
    try:
        _copy(place, connection, revision)
    except DBAPIError as error:
        raise _refused(place, said(error), advice(place, error)) from error


def _copy(place: Place, connection: Connection, revision: str) -> None:
    name = copy_name(place.migrations, revision)
    source = str(connection.scalar(text("SELECT current_schema()")))
    others = [copy for copy in _copies(connection, place.migrations) if copy.source == source]
    _make_room(place, connection, name, others)
    _make_tables(connection, place.migrations, name, revision)
    _fill(connection, source, name)
    mark = f"{_MARK} {source}, {datetime.now(UTC).isoformat(timespec='microseconds')}"
    connection.exec_driver_sql(f"COMMENT ON SCHEMA {_quoted(connection, name)} IS {_literal(mark)}")
    kept = sorted((copy for copy in others if copy.name != name), key=lambda copy: copy.made, reverse=True)
    for copy in kept[COPIES - 1 :]:
        connection.exec_driver_sql(f"DROP SCHEMA {_quoted(connection, copy.name)} CASCADE")


def _copies(connection: Connection, migrations: Migrations) -> list[_Copy]:
    """Those that this role made, of any source."""
    rows = connection.execute(
        text(
            "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace "
            "WHERE starts_with(nspname, :prefix) AND pg_has_role(nspowner, 'USAGE')"
        ),
        {"prefix": copy_name(migrations, "")},
    )
    found = ((name, re.fullmatch(rf"{_MARK} (.+), (\S+)", comment or "")) for name, comment in rows)
    return [_Copy(name, marked[1], marked[2]) for name, marked in found if marked]


def _make_room(place: Place, connection: Connection, name: str, others: list[_Copy]) -> None:
    """One of the same name is of an earlier way forwards, after which somebody went back."""
    if name in (copy.name for copy in others):
        connection.exec_driver_sql(f"DROP SCHEMA {_quoted(connection, name)} CASCADE")
    elif connection.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": name}):
        raise _refused(
            place,
            f"there is a schema {name} already, which is no copy of these tables by this role",
            f"look what is in it, then `ALTER SCHEMA {name} RENAME TO` another name",
        )
    if not connection.scalar(text("SELECT has_database_privilege(current_database(), 'CREATE')")):
        asked = "SELECT quote_ident(current_user), quote_ident(current_database())"
        role, database = connection.execute(text(asked)).one()
        raise _refused(
            place,
            f"the role {role} may make no schema in the database {database}",
            f"have `GRANT CREATE ON DATABASE {database} TO {role}` run there (afterwards "
            f"`REVOKE CREATE ON DATABASE {database} FROM {role}`), then `todoku apply`",
        )


def _make_tables(connection: Connection, migrations: Migrations, name: str, revision: str) -> None:
    """As they were made at the time, with nothing in them."""
    schema = _quoted(connection, name)
    before = connection.scalar(text("SELECT current_setting('search_path')"))
    connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC")
    path = text("SELECT set_config('search_path', :path, true)")
    connection.execute(path, {"path": schema})
    migrations.upgrade(connection, revision)
    connection.execute(path, {"path": before})


def _fill(connection: Connection, source: str, name: str) -> None:
    found = inspect(connection)
    ordered = [table for table, _ in found.get_sorted_table_and_fkc_names(name) if table is not None]
    tables = [table for table in ordered if table != _VERSION]  # which the migrations have written
    originals = {table: f"{_quoted(connection, source)}.{_quoted(connection, table)}" for table in tables}
    copies = {table: f"{_quoted(connection, name)}.{_quoted(connection, table)}" for table in tables}
    # What the migration of most tables needs anyway: asked for later, it could be a deadlock with who is writing.
    connection.exec_driver_sql(f"LOCK TABLE {', '.join(originals.values())} IN ACCESS EXCLUSIVE MODE")
    connection.exec_driver_sql(f"TRUNCATE {', '.join(copies.values())}")  # some migrations write rows
    for table in tables:
        names = [column["name"] for column in found.get_columns(table, name)]
        columns = ", ".join(_quoted(connection, each) for each in names)
        rows = f"SELECT {columns} FROM {originals[table]}"  # noqa: S608 (names of the migrations', quoted)
        connection.exec_driver_sql(f"INSERT INTO {copies[table]} ({columns}) OVERRIDING SYSTEM VALUE {rows}")
        for column in names:
            _count_on(connection, originals[table], copies[table], column)


def _count_on(connection: Connection, original: str, copy: str, column: str) -> None:
    """A number that was given out is not given out again, also by the tables of the copy."""
    asked = text("SELECT pg_get_serial_sequence(:original, :column), pg_get_serial_sequence(:copy, :column)")
    given = {"original": original, "copy": copy, "column": column}
    counts, copied = connection.execute(asked, given).one()
    if counts is not None and copied is not None:
        last = f"SELECT setval(:copied, last_value, is_called) FROM {counts}"  # noqa: S608 (quoted by the server)
        connection.execute(text(last), {"copied": copied})


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _refused(place: Place, why: str, what_to_do: str) -> Unusable:
    return Unusable(
        f"{place.shown} was not migrated, as no copy of it could be made first: {why}. Nothing was changed: "
        f"{what_to_do}"
    )
