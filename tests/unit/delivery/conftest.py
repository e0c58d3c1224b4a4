# The ledger is the same on SQLite and on PostgreSQL: what is tested here is tested on both, the latter a real server
# that Debian's package brings (`script/setup --dev` installs it), started for the tests alone.

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from postgresql_server import start_postgresql
from todoku.store import ledger


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The folder with the socket of a server."""
    with start_postgresql(Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))) as server:
        yield str(server.folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ledger.Place:
    """Where a ledger can be: nothing is there yet."""
    if request.param == "sqlite":
        return ledger.Place(str(tmp_path / "ledger" / "ledger.sqlite3"))
    folder = request.getfixturevalue("postgresql")
    name = f"ledger_{os.getpid()}_{time.monotonic_ns()}"
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/createdb"))[-1]
    subprocess.run([programs, "-h", folder, "-U", "postgres", name], check=True)
    return ledger.Place(f"postgresql://postgres@/{name}?host={folder}")


@pytest.fixture
def engine(place: ledger.Place) -> Iterator[Engine]:
    """A ledger with nothing in it."""
    ledger.migrate(place)
    opened = ledger.open(place)
    yield opened
    opened.dispose()
