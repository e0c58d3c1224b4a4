# A PostgreSQL that does not answer ended its programs with a traceback, and what it said too late could have been taken
# for the answer to the next question.

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from postgresql_server import Server, start_postgresql
from todoku.store import StoreError, ledger

WORDS = "could not be used: timed out. Whether the last change was made is not known"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_postgresql(Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))) as running:
        yield running


@pytest.fixture
def engine(server: Server) -> Iterator[Engine]:
    engine = ledger._engine(ledger.Place(f"postgresql://postgres@/postgres?host={server.folder}"), kept=True)
    with ledger.read(engine) as connection:
        impatient(connection)
    yield engine
    engine.dispose()


def impatient(connection: Connection) -> None:
    """Half a second in the place of half a minute, for this connection alone."""
    there = connection.connection.dbapi_connection
    assert there is not None
    there._usock.settimeout(0.5)


@contextmanager
def silent(server: Server) -> Iterator[None]:
    """It takes what is said, and says nothing until afterwards."""
    assert server.process is not None
    children = subprocess.check_output(["pgrep", "-P", str(server.process.pid)], text=True).split()
    for process in map(int, children):
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in map(int, children):
            os.kill(process, signal.SIGCONT)


def number(connection: Connection, wanted: int) -> int:
    return int(connection.execute(text(f"SELECT {wanted}")).scalar_one())


@pytest.mark.parametrize("when", ["before the transaction", "in the middle", "at its end"])
def test_a_server_that_says_nothing_is_an_error_in_words_and_what_it_says_later_is_not_heard(
    server: Server, engine: Engine, when: str
) -> None:
    with ExitStack() as stopped, pytest.raises(StoreError, match=WORDS):
        if when == "before the transaction":
            stopped.enter_context(silent(server))
        with ledger.write(engine) as connection:
            if when == "in the middle":
                stopped.enter_context(silent(server))
            number(connection, 1)
            stopped.enter_context(silent(server))
    for each in range(2, 6):
        with ledger.read(engine) as connection:
            assert number(connection, each) == each
