# The ledger is the same on SQLite and on PostgreSQL: what is tested here is tested on both, the latter a real server
# that Debian's package brings (`script/setup --dev` installs it), started for the tests alone.

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from todoku.store import ledger


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The folder with the socket of a server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert found, "there is no PostgreSQL: script/setup --dev installs it"
    programs = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))
    as_postgres: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
    cluster = folder / "cluster"
    subprocess.run(
        [*as_postgres, programs / "initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8",
         "--no-sync", "--locale=C.UTF-8"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    server = subprocess.Popen(
        [*as_postgres, programs / "postgres", "-D", cluster, "-k", folder, "-h", "", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=(folder / "log").open("wb"), cwd="/",
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        ready = [programs / "pg_isready", "-q", "-h", folder]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield str(folder)
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


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
