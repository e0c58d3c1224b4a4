# A database in PostgreSQL used to be migrated with nothing to go back to. What is promised of its copy is shown with a
# real server: the rows as they were, the way back as docs/database.md has it, and the bad days.

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from postgresql_server import Server, start_postgresql
from todoku.host.daemons.agent import LedgerSchema
from todoku.host.daemons.campaign import CampaignSchema
from todoku.store import StoreError, campaign, ledger, migrating, postgresql_copy
from todoku.store.place import Place

DOCUMENTED = Path(__file__).resolve().parents[3] / "docs/database.md"
KINDS: dict[str, Callable[[str], Place]] = {"ledger": Place, "campaign": campaign.place}
RELEASED = sorted(
    (kind, revision)
    for kind, there in KINDS.items()
    for revision in there("x").migrations.known() - {there("x").migrations.wanted()}
)
ROWS = {
    "ledger": (
        "INSERT INTO message (id, arrived, subject) VALUES (7, 1.5, 'Grüße')",
        "INSERT INTO recipient (id, message, address, state, since) VALUES (8, 7, 'a@hoge.example', 'sent', 2)",
        "INSERT INTO checkpoint (source, position) VALUES ('the log', '42')",
    ),
    "campaign": (
        "INSERT INTO list (name, title, consent_text, double_opt_in, is_open, created) "
        "VALUES ('news', 'News', 'yes', true, false, 1)",
        "INSERT INTO subscriber (address, attributes, language, created) VALUES ('a@hoge.example', '{}', 'ja', 1)",
        "INSERT INTO subscription (list, subscriber, state, since, has_evidence) VALUES (1, 1, 'in', 1, true)",
    ),
}
ROLE = "keeper"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgresql(Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))) as running:
        running.run("createuser", ROLE)
        yield running


def new(server: Server, kind: str, revision: str | None = None) -> Place:
    """A database, as the version with that schema made it for a role that owns it, with something in it."""
    name = f"{kind}_{time.monotonic_ns()}"
    server.run("createdb", f"--owner={ROLE}", name)
    place = KINDS[kind](f"postgresql://{ROLE}@/{name}?host={server.folder}")
    if revision is not None:
        with connected(place) as connection:
            place.migrations.upgrade(connection, revision)
            for row in ROWS[kind]:
                connection.execute(text(row))
    return place


@contextmanager
def connected(place: Place, role: str = ROLE) -> Iterator[Connection]:
    engine = create_engine(place.url().set(username=role))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def copy_of(place: Place, revision: str) -> str:
    return f"todoku_copy_{place.migrations.kind}_{revision}"


def copies(place: Place) -> list[str]:
    asked = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'todoku%' ORDER BY 1"
    with connected(place) as connection:
        return list(connection.scalars(text(asked)))


def content(place: Place, schema: str = "public") -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with connected(place, "postgres") as connection:
        tables = connection.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = :schema ORDER BY 1"), {"schema": schema}
        )
        return {
            table: sorted(connection.scalars(text(f'SELECT t::text FROM "{schema}"."{table}" AS t')))  # noqa: S608
            for table in list(tables)
        }


def shape(place: Place, schema: str = "public") -> str:
    """Columns, defaults, keys and indexes, whichever schema they are in."""
    asked = """
        SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
            || coalesce(column_default, '') FROM information_schema.columns WHERE table_schema = :schema
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = :schema
        UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = to_regnamespace(:schema)
        ORDER BY 1
    """
    with connected(place) as connection:
        connection.execute(text("SELECT set_config('search_path', :schema, true)"), {"schema": schema})
        lines = list(connection.scalars(text(asked), {"schema": schema}))
    assert lines
    return "\n".join(lines).replace(f"{schema}.", "")


# --- the copy, and the way back ------------------------------------------------------------------------------------


def go_back(server: Server, place: Place, revision: str) -> None:
    """As docs/database.md has it, by the administrator of the server."""
    (block,) = re.findall(r"```sql\n(.*?todoku_copy_ledger_0002.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    statements = block.replace("todoku_copy_ledger_0002", copy_of(place, revision))
    server.run(
        "psql", "-qX", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-d", str(place.url().database), "-c",
        statements,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "revision"), RELEASED)
def test_from_every_released_schema_there_is_a_copy_and_a_way_back(
    server: Server, kind: str, revision: str
) -> None:
    place = new(server, kind, revision)
    before, shaped = content(place), shape(place)
    ledger.migrate(place)
    assert ledger.current_revision(place) == place.migrations.wanted()
    copy = copy_of(place, revision)
    assert copies(place) == [copy]
    assert content(place, copy) == before
    assert shape(place, copy) == shaped
    with connected(
        place
    ) as connection:  # a part of PgQueuer, which stays in its place, and what came afterwards
        connection.execute(text("CREATE TABLE pgqueuer_log (id int)"))
        connection.execute(text(ROWS[kind][0].replace("7, 1.5", "9, 1.5").replace("'news'", "'later'")))
    after = content(place)
    go_back(server, place, revision)
    assert ledger.current_revision(place) == revision
    queue = {"pgqueuer_log": after.pop("pgqueuer_log")}
    assert content(place) == before | queue
    assert content(place, "todoku_set_aside") == after
    assert copies(place) == ["todoku_set_aside"]
    with connected(place) as connection:
        connection.execute(text("DROP TABLE pgqueuer_log"))
    assert shape(place) == shaped
    ledger.migrate(place)  # and forwards once more
    assert content(place, copy) == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_names_the_copy(kind: str) -> None:
    """The one in PostgreSQL, and the one beside a file."""
    schema = {"ledger": LedgerSchema, "campaign": CampaignSchema}[kind]
    there = f"a copy stays as todoku_copy_{kind}_0002 in the same database"
    for where, words in (("postgresql:///x", there), ("/x/db", "a copy stays as /x/db.schema-0002")):
        change = schema(place=KINDS[kind](where), reason="of the test").differ("0002")
        assert change is not None
        assert words in change.summary


def test_numbers_go_on_where_they_were_in_the_copy_too(server: Server) -> None:
    place = new(server, "campaign", "0003")
    with connected(place) as connection:
        connection.execute(text("DELETE FROM subscriber"))  # the one that had the number 1
    ledger.migrate(place)
    go_back(server, place, "0003")
    with connected(place) as connection:
        again = f"{ROWS['campaign'][1]} RETURNING id"
        assert connection.scalar(text(again)) == 2


def test_nobody_else_may_read_the_copy(server: Server) -> None:
    place = new(server, "ledger", "0002")
    stranger = f"stranger_{time.monotonic_ns()}"
    server.run("createuser", stranger)
    with connected(place) as connection:  # even where the tables themselves are for everybody
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC"))
        connection.execute(text("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC"))
    ledger.migrate(place)
    with connected(place, stranger) as connection:
        assert connection.scalar(text("SELECT count(*) FROM public.message")) == 1
        refused = text("SELECT has_schema_privilege('todoku_copy_ledger_0002', 'USAGE, CREATE')")
        assert connection.scalar(refused) is False


def test_a_new_database_and_one_that_is_up_to_date_are_not_copied(server: Server) -> None:
    place = new(server, "ledger")
    ledger.migrate(place)
    ledger.migrate(place)
    assert copies(place) == []


def test_three_copies_are_kept_and_nothing_of_somebody_else_is_dropped(server: Server) -> None:
    place = new(server, "ledger", "0002")
    with connected(place) as connection:
        for number in range(migrating.COPIES + 1):
            connection.execute(text(f"CREATE SCHEMA todoku_copy_ledger_old{number}"))
            mark = f"Todoku''s copy of public, 2026-01-0{number + 1}T00:00:00+00:00"
            connection.execute(text(f"COMMENT ON SCHEMA todoku_copy_ledger_old{number} IS '{mark}'"))
        connection.execute(text("CREATE SCHEMA todoku_copy_ledger_mine"))  # not marked
        connection.execute(text("CREATE SCHEMA todoku_copy_ledger_other"))
        other = "Todoku''s copy of another, 2025-01-01T00:00:00+00:00"
        connection.execute(text(f"COMMENT ON SCHEMA todoku_copy_ledger_other IS '{other}'"))
    ledger.migrate(place)
    kept = {f"todoku_copy_ledger_{each}" for each in ("0002", "old3", "old2", "mine", "other")}
    assert set(copies(place)) == kept


# --- bad days -------------------------------------------------------------------------------------------------------


def refusal(place: Place) -> str:
    """The words, after a look whether anything has changed."""
    before, there = content(place), copies(place)
    with pytest.raises(StoreError) as caught:
        ledger.migrate(place)
    assert content(place) == before
    assert copies(place) == there
    return str(caught.value)


def test_a_role_that_may_make_no_schema_is_told_the_grant_that_helps(server: Server) -> None:
    place = new(server, "ledger", "0002")
    database = place.url().database
    for statement in (
        f"ALTER DATABASE {database} OWNER TO postgres",
        f"GRANT CREATE ON SCHEMA public TO {ROLE}",  # for its tables, which its owner may without
    ):
        server.run("psql", "-qc", statement, "-d", str(database))
    said = refusal(place)
    assert f"the role {ROLE} may make no schema in the database {database}. Nothing was changed" in said
    (grant, revoke) = re.findall(r"`((?:GRANT|REVOKE) [^`]*)`", said)
    server.run("psql", "-qc", grant, "-d", "postgres")
    ledger.migrate(place)
    server.run("psql", "-qc", revoke, "-d", "postgres")
    assert copies(place) == ["todoku_copy_ledger_0002"]
    ledger.migrate(place)  # which needs no right, as there is nothing to do


def test_a_schema_of_that_name_that_is_no_copy_is_left_alone(server: Server) -> None:
    place = new(server, "ledger", "0002")
    with connected(place) as connection:
        connection.execute(text("CREATE SCHEMA todoku_copy_ledger_0002"))
        connection.execute(text("CREATE TABLE todoku_copy_ledger_0002.mine (id int)"))
    assert "no copy of these tables" in refusal(place)
    assert content(place, "todoku_copy_ledger_0002") == {"mine": []}


def test_a_table_that_is_not_as_it_was_made_is_told(server: Server) -> None:
    place = new(server, "ledger", "0002")
    with connected(place) as connection:
        connection.execute(text("ALTER TABLE checkpoint RENAME COLUMN position TO place"))
    assert 'column "position" does not exist' in refusal(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that gets full")
def test_a_full_disk_of_the_server_changes_nothing(server: Server) -> None:
    place = new(server, "ledger", "0002")
    with connected(place) as connection:
        connection.execute(
            text(
                "INSERT INTO message (id, arrived, subject) SELECT 100 + n, 1, repeat(md5(n::text), 10) "
                "FROM generate_series(1, 10000) AS n"
            )
        )
    small = server.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        subprocess.run(["chown", "postgres", small], check=True)
        server.run("psql", "-qc", f"CREATE TABLESPACE small LOCATION '{small}'")
        server.run("psql", "-qc", f"GRANT CREATE ON TABLESPACE small TO {ROLE}")
        server.run("psql", "-qc", f"ALTER ROLE {ROLE} SET default_tablespace = 'small'")
        said = refusal(place)
        assert "No space left on device" in said
        assert "make room on the disk of the server" in said
        server.run("psql", "-qc", f"ALTER ROLE {ROLE} RESET default_tablespace")
        ledger.migrate(place)
        server.run("psql", "-qc", "DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", small], check=True)


MIGRATE = """
import sys
from todoku.store import ledger
from todoku.store.place import Place
ledger.migrate(Place(sys.argv[1]))
"""


def start(place: Place) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MIGRATE, place.where], stderr=subprocess.PIPE)


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def waiting(server: Server, place: Place) -> int:
    """How many sessions of the role wait for an advisory lock."""
    asked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = :database AND wait_event = 'advisory'"
    )
    with connected(place, "postgres") as connection:
        return int(connection.scalar(asked, {"database": place.url().database}) or 0)


@contextmanager
def stopped_in_the_middle(server: Server, place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A migration that has made the copy and changed a table, and goes no further until the end of this."""
    engine = create_engine(place.url().set(username="postgres"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(1)"))
        connection.execute(
            text(
                "CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_advisory_lock(1); END'"
            )
        )
        connection.execute(
            text(
                "CREATE EVENT TRIGGER stop ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION stop()"
            )
        )
        connection.commit()
        process = start(place)
        try:
            until(lambda: waiting(server, place) == 1, "nobody came to the middle")
            yield process
        finally:
            process.kill()
            process.wait(60)
            connection.invalidate()
    engine.dispose()
    server.run("psql", "-qc", "DROP EVENT TRIGGER IF EXISTS stop", "-d", str(place.url().database))


def nobody_is_there(place: Place) -> bool:
    asked = text("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = :database AND usename = :role")
    with connected(place, "postgres") as connection:
        return bool(connection.scalar(asked, {"database": place.url().database, "role": ROLE}))


@pytest.mark.parametrize("who", ["todoku", "the server"])
def test_killed_in_the_middle_nothing_is_half_done(server: Server, who: str) -> None:
    place = new(server, "ledger", "0002")
    before = content(place)
    with stopped_in_the_middle(server, place) as process:
        if who == "todoku":
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        else:
            cut_the_power(server)
            server.start()
    until(lambda: nobody_is_there(place), "the session stays")
    assert content(place) == before
    assert copies(place) == []
    ledger.migrate(place)
    assert content(place, "todoku_copy_ledger_0002") == before


def cut_the_power(server: Server) -> None:
    """With all of its children: while one of them is there, it does not start again."""
    assert server.process is not None
    children = subprocess.check_output(["pgrep", "-P", str(server.process.pid)], text=True).split()
    server.kill()
    for child in map(int, children):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    until(lambda: not any(map(_runs, children)), "a child of the server stays")


def _runs(process: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_several_machines_migrate_the_same_database_at_the_same_time(server: Server) -> None:
    place = new(server, "ledger", "0001")
    before = content(place)
    with ThreadPoolExecutor(4) as pool:
        processes = [start(place) for _ in range(4)]
        ended = list(pool.map(lambda process: process.communicate(timeout=120)[1].decode(), processes))
    assert [process.returncode for process in processes] == [0] * 4, ended
    assert content(place, "todoku_copy_ledger_0001") == before
    assert copies(place) == ["todoku_copy_ledger_0001"]
    assert ledger.current_revision(place) == ledger.wanted_revision()


def test_who_comes_second_says_that_a_later_version_was_first(server: Server) -> None:
    place = new(server, "ledger", "0002")
    engine = create_engine(place.url())
    with engine.connect() as first:
        first.execute(text(f"SELECT pg_advisory_xact_lock({postgresql_copy._LOCK})"))
        process = start(place)
        until(lambda: waiting(server, place) == 1, "nobody waits")
        first.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        first.commit()
    engine.dispose()
    assert "does not know: it was made by a later version" in process.communicate(timeout=120)[1].decode()
    assert copies(place) == []


def test_what_is_written_meanwhile_is_in_the_copy_or_comes_after_it(server: Server) -> None:
    place = new(server, "ledger", "0002")
    engine = create_engine(place.url())
    with engine.connect() as writer:
        writer.execute(text("INSERT INTO checkpoint (source, position) VALUES ('meanwhile', '1')"))
        process = start(place)
        asked = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'checkpoint'::regclass")

        def waits() -> bool:
            with connected(place) as connection:
                return bool(connection.scalar(asked))

        until(waits, "nobody waits for the writer")
        writer.commit()
    engine.dispose()
    assert process.wait(120) == 0
    assert any("meanwhile" in row for row in content(place, "todoku_copy_ledger_0002")["checkpoint"])
