# Promises of the store: root's alone, only ever used with the schema it was written for, migrated all or
# nothing.

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from todoku import store
from todoku.store import schema


def _put(connection, address: str, target: str) -> None:
    connection.execute(schema.alias.insert().values(address=address, target=target))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "todoku.sqlite3"


def test_a_new_database_has_the_wanted_schema_and_is_readable_by_its_owner_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        store.migrate(path)
        with store.write(store.open(path)) as connection:
            _put(connection, "a@hoge.example", "b@hoge.example")
            assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    finally:
        os.umask(old)
    assert store.current_revision(path) == store.wanted_revision()


def test_migrating_twice_changes_nothing(path: Path) -> None:
    store.migrate(path)
    with store.write(store.open(path)) as connection:
        _put(connection, "a@hoge.example", "b@hoge.example")
    store.migrate(path)
    with store.read(store.open(path)) as connection:
        assert connection.execute(schema.alias.select()).all() == [("a@hoge.example", "b@hoge.example")]


def test_the_migrations_arrive_at_the_tables_that_the_code_uses(path: Path, tmp_path: Path) -> None:
    store.migrate(path)
    direct = create_engine(f"sqlite:///{tmp_path / 'direct'}")
    schema.metadata.create_all(direct)
    migrated, wanted = inspect(store.open(path)), inspect(direct)
    for table in schema.metadata.tables:
        assert _shape(migrated, table) == _shape(wanted, table)


def _shape(seen, table):
    columns = [(c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in seen.get_columns(table)]
    indexes = sorted(
        (i["name"], tuple(i["column_names"]), bool(i["unique"])) for i in seen.get_indexes(table)
    )
    keys = [
        (k["constrained_columns"], k["referred_table"], k["options"]) for k in seen.get_foreign_keys(table)
    ]
    unique = [u["column_names"] for u in seen.get_unique_constraints(table)]
    return columns, indexes, keys, unique


def test_opening_before_apply_says_to_apply(path: Path) -> None:
    with pytest.raises(store.StoreMissingError, match="todoku apply"):
        store.open(path)
    assert not path.exists()
    assert store.current_revision(path) is None


def test_a_database_that_was_created_but_not_filled_is_older_and_can_be_migrated(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    with pytest.raises(store.StoreOlderError, match="todoku apply"):
        store.open(path)
    store.migrate(path)
    store.open(path)


def test_a_database_of_a_later_version_is_left_alone(path: Path) -> None:
    store.migrate(path)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    for use in (store.open, store.migrate):
        with pytest.raises(store.StoreNewerError, match=r"9999.*later version"):
            use(path)


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to be read as one" * 30, b"SQLite format 3\0"]
)
def test_a_damaged_file_is_reported_with_what_to_do(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(store.StoreUnusableError, match="backup"):
        store.open(path)
    with pytest.raises(store.StoreUnusableError, match="backup"):
        store.migrate(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(store.StoreUnusableError, match=r"not one of Todoku's.*recipes"):
        store.migrate(path)


def test_an_exception_rolls_the_whole_transaction_back(path: Path) -> None:
    store.migrate(path)
    engine = store.open(path)
    with pytest.raises(KeyboardInterrupt), store.write(engine) as connection:
        _put(connection, "a@hoge.example", "b@hoge.example")
        raise KeyboardInterrupt
    with store.read(engine) as connection:
        assert connection.execute(schema.alias.select()).all() == []


def test_a_second_writer_waits_for_the_first_and_a_reader_does_not(path: Path) -> None:
    store.migrate(path)
    engine = store.open(path)
    order: list[str] = []

    def second() -> None:
        with store.write(store.open(path)) as connection:
            order.append("second")
            _put(connection, "a@hoge.example", "c@hoge.example")

    with store.write(engine) as connection:
        _put(connection, "a@hoge.example", "b@hoge.example")
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.5)
        with store.read(engine) as reader:
            assert reader.execute(schema.alias.select()).all() == []
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_two_migrations_at_once_both_succeed(path: Path) -> None:
    code = "import sys, pathlib; from todoku import store; store.migrate(pathlib.Path(sys.argv[1]))"
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE) for _ in range(3)
    ]
    assert [(run.communicate()[1], run.returncode) for run in runs] == [(b"", 0)] * 3
    store.open(path)


def test_a_full_disk_is_named_and_changes_nothing(path: Path) -> None:
    store.migrate(path)
    engine = store.open(path)
    with (
        pytest.raises(store.StoreUnusableError, match=r"full.*Nothing was changed"),
        store.write(engine) as connection,
    ):
        connection.execute(text("PRAGMA max_page_count = 1"))  # what SQLite answers when no page can be added
        for number in range(5000):
            _put(connection, f"a{number}@hoge.example", "b" * 200)
    with store.read(engine) as connection:
        assert connection.execute(schema.alias.select()).all() == []


def test_who_had_accounts_before_grants_were_there_still_has_them(path: Path) -> None:
    from alembic import command

    path.parent.mkdir(parents=True)
    earlier = create_engine(f"sqlite:///{path}")
    with earlier.begin() as connection:
        config = store.database._MIGRATIONS._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO account VALUES (7, 'a@hoge.example', NULL, NULL, '2026-11-24')"))
        connection.execute(text("INSERT INTO address VALUES ('a@hoge.example', 7, 1)"))
    path.chmod(0o600)
    assert store.current_revision(path) == "0001"
    store.migrate(path)
    assert store.current_revision(path) == store.wanted_revision() != "0001"
    with store.read(store.open(path)) as connection:
        assert connection.execute(schema.address.select()).all() == [("a@hoge.example", 7, True)]
        assert connection.execute(schema.send_as.select()).all() == []
