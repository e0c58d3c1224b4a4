# `todoku apply` makes both databases at the same time, and Alembic knows of one at a time in a process: on a slow
# machine the second one used to fail.

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from todoku.store import StoreError, campaign, database, ledger, migrating
from todoku.store.migrating import Migrations


def test_both_databases_can_be_made_at_the_same_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [
            pool.submit(make, tmp_path / f"{number}-{kind}")
            for number in range(8)
            for kind, make in (("store", database.migrate), ("ledger", _make_ledger))
        ]
        for each in made:
            each.result()
    assert database.current_revision(tmp_path / "7-store") == database.wanted_revision()
    assert ledger.current_revision(ledger.Place(str(tmp_path / "7-ledger"))) == ledger.wanted_revision()


@pytest.mark.parametrize("kind", ["migrations", "ledger_migrations", "campaign_migrations"])
def test_which_schemas_there_are_is_read_as_alembic_reads_it(kind: str) -> None:
    migrations = Migrations(Path(migrating.__file__).parent / kind)
    scripts = ScriptDirectory(migrations.folder)
    assert migrations.wanted() == scripts.get_current_head()
    assert migrations.known() == {script.revision for script in scripts.walk_revisions()}


def _make_ledger(path: Path) -> None:
    ledger.migrate(ledger.Place(str(path)))


# --- an upgrade is a migration, and a copy of what was there before ------------------------------------------------


def _make_campaign(path: Path) -> None:
    campaign.migrate(campaign.place(str(path)))


MAKE = {"store": database.migrate, "ledger": _make_ledger, "campaign": _make_campaign}
MIGRATIONS = {
    "store": database._MIGRATIONS,
    "ledger": ledger.Place().migrations,
    "campaign": campaign.place().migrations,
}


def _migrate(kind: str, path: Path) -> None:
    MAKE[kind](path)


def _migrations(kind: str) -> Migrations:
    return MIGRATIONS[kind]


RELEASED = sorted((kind, revision) for kind in MAKE for revision in _migrations(kind).known())
A_ROW = {
    "store": "INSERT INTO alias (address, target) VALUES ('a@hoge.example', 'b@hoge.example')",
    "ledger": "INSERT INTO checkpoint (source, position) VALUES ('the log', '42')",
    "campaign": "INSERT INTO forgotten (digest, since) VALUES ('somebody', 42.0)",
}
ASK = {
    "store": "SELECT target FROM alias",
    "ledger": "SELECT position FROM checkpoint",
    "campaign": "SELECT digest FROM forgotten",
}


def _at(kind: str, revision: str, path: Path) -> None:
    """A database as the version with that schema made it, with something in it."""
    config = _migrations(kind)._config()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(A_ROW[kind])


def _row(kind: str, path: Path) -> str:
    with closing(sqlite3.connect(path)) as opened:
        return str(opened.execute(ASK[kind]).fetchone()[0])


@pytest.mark.parametrize(("kind", "revision"), RELEASED)
def test_every_schema_that_was_ever_released_is_brought_forward_with_what_is_in_it(
    kind: str, revision: str, tmp_path: Path
) -> None:
    path = tmp_path / "db.sqlite3"
    _at(kind, revision, path)
    before = _row(kind, path)
    _migrate(kind, path)
    assert _row(kind, path) == before
    copies = list(tmp_path.glob("db.sqlite3.schema-*"))
    if revision == _migrations(kind).wanted():
        assert copies == []  # nothing to do, nothing to keep
    else:
        assert [copy.name for copy in copies] == [f"db.sqlite3.schema-{revision}"]
        assert _row(kind, copies[0]) == before
        assert copies[0].stat().st_mode & 0o777 == 0o600


def test_without_a_copy_nothing_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite3"
    _at("ledger", "0001", path)
    # What is in the way stands for a full disk: the copy cannot be put in its place.
    (tmp_path / "ledger.sqlite3.schema-0001").mkdir()
    (tmp_path / "ledger.sqlite3.schema-0001/file").touch()
    with pytest.raises(StoreError, match="was not migrated, as no copy"):
        _make_ledger(path)
    assert ledger.current_revision(ledger.Place(str(path))) == "0001"
    assert not list(tmp_path.glob("*.partial"))


def test_copies_do_not_pile_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    _at("ledger", "0001", path)
    for number in range(migrating.COPIES + 3):
        migrating.keep_a_copy(path, f"{number:04}")
    left = sorted(copy.name for copy in tmp_path.glob("*.schema-*"))
    assert len(left) == migrating.COPIES
    assert left[-1].endswith(f"{migrating.COPIES + 2:04}")
