# A database on another host used to be reached in the clear, or by whoever answered in its place.

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from postgresql_server import Server, start_postgresql
from todoku.rehearsal.internet.pki import Authority
from todoku.store import StoreError, campaign, ledger

NAME = socket.gethostname()  # reached without leaving the machine, but no name of the loopback


@pytest.fixture
def server() -> Iterator[Server]:
    """Without TLS at first."""
    try:
        socket.getaddrinfo(NAME, None)
    except OSError:
        pytest.skip("this machine cannot find its own name, which the server is reached by")
    with socket.create_server((NAME, 0)) as free:
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))
    with start_postgresql(folder, listens=NAME, port=port) as running:
        running.run("createdb", "apart")
        yield running


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority")


def with_tls(server: Server, authority: Authority, name: str, folder: Path) -> None:
    for made, wanted in zip(authority.issue([name], folder), ("server.crt", "server.key"), strict=True):
        installed = server.folder / "cluster" / wanted
        shutil.copyfile(made, installed)
        installed.chmod(0o600)
        shutil.chown(installed, (server.folder / "cluster").owner())
    server.run("psql", "-qc", "ALTER SYSTEM SET ssl = on")
    server.stop()
    server.start()


def where(server: Server, authority: Authority) -> str:
    return f"postgresql://postgres@{NAME}:{server.port}/apart?sslrootcert={authority.certificate_path}"


async def encrypted(engine: Any) -> bool:
    """Whether the connection of the workers' queue is."""
    import asyncpg

    connection = await asyncpg.connect(**ledger.for_asyncpg(engine), timeout=30)
    try:
        return bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    finally:
        await connection.close()


def test_a_server_with_a_certificate_of_its_name_is_used_through_tls(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    with_tls(server, authority, NAME, tmp_path)

    place = campaign.place(where(server, authority))
    campaign.migrate(place)
    engine = campaign.open(place)
    with ledger.read(engine) as connection:
        question = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert connection.execute(question).scalar_one() is True
    assert asyncio.run(encrypted(engine))
    engine.dispose()


def test_a_server_without_tls_is_refused(server: Server, authority: Authority) -> None:
    place = ledger.Place(where(server, authority))
    with pytest.raises(StoreError, match=r"refuses SSL.*has TLS \(ssl = on\)"):
        ledger.migrate(place)
    with pytest.raises(OSError, match="SSL"):
        asyncio.run(encrypted(ledger._engine(place)))


def test_a_certificate_of_another_name_is_refused(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    with_tls(server, authority, "db.other.example", tmp_path)
    place = ledger.Place(where(server, authority))
    with pytest.raises(StoreError, match=r"not believed.*[Hh]ostname mismatch"):
        ledger.migrate(place)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        asyncio.run(encrypted(ledger._engine(place)))


def test_a_certificate_of_an_unknown_authority_is_refused(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    with_tls(server, authority, NAME, tmp_path)
    for options in ("", f"?sslrootcert={Authority.create(tmp_path / 'stranger').certificate_path}"):
        place = ledger.Place(where(server, authority).partition("?")[0] + options)
        with pytest.raises(StoreError, match=r"not believed.*certificate verify failed"):
            ledger.migrate(place)
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(encrypted(ledger._engine(place)))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://db.example/apart?sslrootcert=/nonexistent", "authority /nonexistent cannot be read"),
        ("postgresql://db.example/apart?sslmode=disable", "option sslmode, which is not taken"),
        ("postgresql://localhost/apart?host=db.example", "option host, which is not taken"),
    ],
)
def test_an_option_that_would_weaken_it_is_refused(address: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        ledger.migrate(ledger.Place(address))


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "[::1]"])
def test_on_the_machine_itself_no_certificate_is_needed(host: str) -> None:
    assert ledger.Place(f"postgresql://{host}/ledger").tls() is None
