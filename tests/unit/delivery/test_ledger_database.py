# Promises of the ledger's database, on SQLite and on PostgreSQL: only ever used with the schema it was written for,
# migrated all or nothing, and no password in the settings.

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from todoku.store import StoreMissingError, StoreNewerError, StoreOlderError, StoreUnusableError, ledger
from todoku.store import ledger_schema as schema


def test_a_new_ledger_has_the_wanted_schema(place: ledger.Place) -> None:
    assert ledger.current_revision(place) is None
    with pytest.raises(StoreMissingError, match="todoku apply"):
        ledger.open(place)
    ledger.migrate(place)
    ledger.migrate(place)
    assert ledger.current_revision(place) == ledger.wanted_revision()


def test_the_migrations_arrive_at_the_tables_that_the_code_uses(place: ledger.Place) -> None:
    ledger.migrate(place)
    migrated = ledger.open(place)
    seen = {table: _shape(inspect(migrated), table) for table in schema.metadata.tables}
    with migrated.begin() as connection:
        for table in ("attempt", "recipient", "message", "checkpoint", "notice", "relay_line"):
            connection.execute(text(f"DROP TABLE {table}"))
    schema.metadata.create_all(migrated)
    assert seen == {table: _shape(inspect(migrated), table) for table in schema.metadata.tables}
    migrated.dispose()


def _shape(seen, table):
    columns = [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(table)]
    indexes = sorted(
        (i["name"], tuple(i["column_names"]), bool(i["unique"])) for i in seen.get_indexes(table)
    )
    keys = [(tuple(k["constrained_columns"]), k["referred_table"]) for k in seen.get_foreign_keys(table)]
    return columns, indexes, keys, sorted(u["name"] for u in seen.get_unique_constraints(table))


def test_a_ledger_of_another_version_is_not_touched(place: ledger.Place) -> None:
    ledger.migrate(place)
    engine = ledger.open(place)
    for revision, error in (("9999", StoreNewerError), ("0000", StoreNewerError)):
        with ledger.write(engine) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        with pytest.raises(error, match=revision):
            ledger.open(place)
        with pytest.raises(error, match=revision):
            ledger.migrate(place)
    engine.dispose()


def test_an_older_ledger_is_migrated_by_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ledger.Place(str(tmp_path / "ledger.sqlite3"))
    ledger.migrate(place)
    monkeypatch.setattr(ledger, "wanted_revision", lambda _: "9999")
    with pytest.raises(StoreOlderError, match="todoku apply"):
        ledger.open(place)


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE cats (name)")
    with pytest.raises(StoreUnusableError, match="not one of Todoku's"):
        ledger.open(ledger.Place(str(path)))


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    place = ledger.Place(str(tmp_path / "lib" / "ledger.sqlite3"))
    old = os.umask(0)
    try:
        ledger.migrate(place)
        with ledger.write(ledger.open(place)) as connection:
            connection.execute(text("DELETE FROM checkpoint"))
            assert {file.stat().st_mode & 0o777 for file in (tmp_path / "lib").iterdir()} == {0o600}
    finally:
        os.umask(old)


@pytest.fixture
def agents() -> Iterator[Path]:
    """A folder of another user's, to which everybody finds the way."""
    above = Path(tempfile.mkdtemp(prefix="todoku-"))
    above.chmod(0o755)
    folder = above / "agents"
    folder.mkdir(0o700)
    os.chown(folder, 4711, 4712)
    yield folder
    shutil.rmtree(above)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to somebody else")
def test_the_file_belongs_to_whom_its_folder_belongs_to(agents: Path) -> None:
    folder = agents
    place = ledger.Place(str(folder / "ledger.sqlite3"))
    ledger.migrate(place)
    with ledger.read(ledger.open(place)) as connection:  # root looks: what it leaves behind is the owner's
        connection.execute(text("SELECT 1"))
    assert {file.stat().st_uid for file in folder.iterdir()} == {4711}
    assert os.access("/etc/shadow", os.R_OK)  # and root has its rights again


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to somebody else")
def test_a_link_in_the_agents_folder_does_not_lead_root_to_another_file(agents: Path) -> None:
    target = agents.parent / "roots"
    target.write_bytes(b"")
    target.chmod(0o600)
    (agents / "ledger.sqlite3").symlink_to(target)
    with pytest.raises(StoreUnusableError, match="Permission denied"):
        ledger.migrate(ledger.Place(str(agents / "ledger.sqlite3")))
    assert target.read_bytes() == b""
    assert target.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to somebody else")
def test_root_that_may_not_take_on_the_owners_rights_does_not_go_on_with_its_own(agents: Path) -> None:
    """As systemd has it with a filter of system calls that does not know setfsuid(2)."""
    (agents / "ledger.sqlite3").write_bytes(b"x")
    code = "import sys; from todoku.store import ledger; ledger.current_revision(ledger.Place(sys.argv[1]))"
    ended = subprocess.run(
        ["setpriv", "--bounding-set=-setuid", sys.executable, "-c", code, agents / "ledger.sqlite3"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "StoreUnusableError" in ended.stderr, ended.stderr
    assert "may not take on the owner's rights (setfsuid)" in ended.stderr
    assert (agents / "ledger.sqlite3").read_bytes() == b"x"


def test_a_password_in_the_settings_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreUnusableError, match="without a password") as refused:
        ledger.Place("postgresql://me:hunter2@db.example/ledger").url()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("where", ["mysql:///ledger", "postgresql:///\0", "://"])
def test_what_is_no_database_of_ours_is_refused(where: str) -> None:
    with pytest.raises(StoreUnusableError):
        ledger.current_revision(ledger.Place(where))


def test_a_server_that_is_not_there_is_an_error_with_advice() -> None:
    with pytest.raises(StoreUnusableError, match="PostgreSQL runs"):
        ledger.current_revision(ledger.Place("postgresql:///ledger?host=/nonexistent"))


def test_the_wal_is_used_and_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    place = ledger.Place(str(tmp_path / "ledger.sqlite3"))
    ledger.migrate(place)
    with ledger.read(ledger.open(place)) as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    assert create_engine(place.url()).dialect.name == "sqlite"
