# A database on another host could be used only by whoever had an address that it trusts. Now a password says who
# connects: out of a file, through TLS, and into nothing that anybody reads.

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from postgresql_server import Server, start_postgresql
from todoku.rehearsal.internet.pki import Authority
from todoku.store import StoreError, campaign, ledger
from todoku.store.place import Place

RIGHT, WRONG = "correct%horse'battery \"@:/$staple", "tr0ub4dor&3-tr0ub4dor"
ROLE = "writer"


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    """In a folder that everybody may enter, as others than root read it."""
    folder = Path(tempfile.mkdtemp(prefix="todoku-ca-", dir="/tmp"))
    folder.chmod(0o755)
    yield Authority.create(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[Server]:
    """TLS, and nobody gets in from the network without the password."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))
    with start_postgresql(folder, listens="localhost", port=port) as server:
        cluster = folder / "cluster"
        for made, wanted in zip(authority.issue(["localhost"], folder), ("crt", "key"), strict=True):
            shutil.copyfile(made, cluster / f"server.{wanted}")
            (cluster / f"server.{wanted}").chmod(0o600)
            shutil.chown(cluster / f"server.{wanted}", cluster.owner())
        hba = f"local all postgres trust\nlocal all {ROLE} scram-sha-256\nhostssl all {ROLE} all scram-sha-256\n"
        (cluster / "pg_hba.conf").write_text(hba)
        server.run("createuser", ROLE)
        for statement in (
            "ALTER SYSTEM SET ssl = on",
            "ALTER SYSTEM SET password_encryption = 'scram-sha-256'",
        ):
            server.run("psql", "-qc", statement)
        server.stop()
        server.start()
        for name in ("ledger", "campaign"):
            server.run("createdb", f"--owner={ROLE}", name)
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    change_password(running, RIGHT)
    return running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "database", RIGHT)


def change_password(server: Server, password: str) -> None:
    quoted = password.replace("'", "''")
    server.run("psql", "-qc", f"ALTER ROLE {ROLE} PASSWORD '{quoted}'")


def write(path: Path, password: str, mode: int = 0o600) -> Path:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{password}\n")
    path.chmod(mode)
    return path


def place(server: Server, authority: Authority, name: str, file: Path | None) -> Place:
    where = f"postgresql://{ROLE}@localhost:{server.port}/{name}?sslrootcert={authority.certificate_path}"
    return campaign.place(where, file) if name == "campaign" else Place(where, password_file=file)


def who(engine: Engine) -> tuple[str, bool]:
    """As whom the connection is, and whether it is encrypted."""
    question = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    with ledger.read(engine) as connection:
        row = connection.execute(text(question)).one()
    return row[0], row[1]


async def who_is_the_queue(engine: Engine) -> tuple[str, bool]:
    """The same of the connection that the workers' queue has."""
    import asyncpg

    connection = await asyncpg.connect(**ledger.for_asyncpg(engine), timeout=30)
    try:
        row = await connection.fetchrow(
            "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        return str(row[0]), bool(row[1])
    finally:
        await connection.close()


def refusal(attempt: Callable[[], object]) -> str:
    """The words, after a look whether a password is anywhere in what a log would have."""
    with pytest.raises(StoreError) as caught:
        attempt()
    everything = "".join(traceback.format_exception(caught.value))
    assert not [each for each in (RIGHT, WRONG, RIGHT[:12], WRONG[:10]) if each in everything], everything
    return str(caught.value)


@pytest.mark.parametrize("name", ["ledger", "campaign"])
def test_who_has_the_password_is_let_in_and_it_is_in_no_representation(
    server: Server, authority: Authority, file: Path, name: str
) -> None:
    there = place(server, authority, name, file)
    ledger.migrate(there)
    engine = ledger.open(there, kept=True)
    assert who(engine) == asyncio.run(who_is_the_queue(engine)) == (ROLE, True)
    for shown in (engine, engine.url, engine.url.render_as_string(hide_password=False), there, there.shown):
        assert RIGHT not in f"{shown} {shown!r}"
    engine.dispose()


def test_a_wrong_password_is_told_with_the_file_that_it_came_from(
    server: Server, authority: Authority, file: Path
) -> None:
    write(file, WRONG)
    there = place(server, authority, "ledger", file)
    said = refusal(lambda: ledger.migrate(there))
    assert f'password authentication failed for user "{ROLE}"' in said
    assert f"write the password of the role {ROLE} into {file}" in said
    assert "{" not in said
    import asyncpg

    with pytest.raises(asyncpg.InvalidPasswordError) as refused:
        asyncio.run(who_is_the_queue(ledger._engine(there)))
    assert WRONG not in "".join(traceback.format_exception(refused.value))


def test_a_server_that_asks_for_a_password_where_none_is_named(server: Server, authority: Authority) -> None:
    said = refusal(lambda: ledger.migrate(place(server, authority, "ledger", None)))
    assert "asks for a password" in said
    assert "database_password_file" in said


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "does not exist: write the password alone into it"),
        (RIGHT, 0o644, "can be used by others (mode 0644): run `chmod 600"),
        (RIGHT, 0o640, "can be used by others (mode 0640): run `chmod 600"),
        (f"{ROLE}\n{RIGHT}", 0o600, "has 2 lines, not 1"),
        ("", 0o600, "is empty"),
        (f"{RIGHT} ", 0o600, "begins or ends with a space"),
        (f"{RIGHT}\t", 0o600, "is not printable ASCII"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(
    server: Server, authority: Authority, file: Path, content: str | None, mode: int, words: str
) -> None:
    if content is None:
        file.unlink()
    else:
        write(file, content, mode)
    for name in ("ledger", "campaign"):
        said = refusal(lambda: ledger.migrate(place(server, authority, name, file)))  # noqa: B023
        assert str(file) in said
        assert words in said


def test_a_new_password_is_used_from_the_next_connection_on(
    server: Server, authority: Authority, file: Path
) -> None:
    ledger.migrate(place(server, authority, "ledger", file))
    engine = ledger.open(place(server, authority, "ledger", file), kept=True)
    assert who(engine) == (ROLE, True)
    change_password(server, WRONG)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'"
    server.run("psql", "-qAtc", cut)
    assert "password authentication failed" in refusal(lambda: who(engine))
    write(file, WRONG)
    assert who(engine) == asyncio.run(who_is_the_queue(engine)) == (ROLE, True)
    engine.dispose()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_a_service_without_rights_has_its_own_copy_and_no_other(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="todoku-copies-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        (folder / "secrets").mkdir(mode=0o700)
        file = write(folder / "secrets" / "database", RIGHT)
        mine, others = write(folder / "mine", RIGHT, 0o400), write(folder / "others", RIGHT, 0o400)
        shutil.chown(mine, 65534, 65534)
        shutil.chown(others, 65533, 65533)
        there = place(server, authority, "ledger", file)
        ledger.migrate(there)
        assert as_nobody(lambda: who(ledger.open(replace(there, password_copy=mine)))) == f"('{ROLE}', True)"
        said = as_nobody(lambda: ledger.open(replace(there, password_copy=others)))
        assert f"cannot read {others}" in said
        assert "Permission denied" in said
        said = as_nobody(lambda: ledger.open(replace(there, password_copy=folder / "none")))
        assert "does not exist" in said
        assert "`todoku apply` makes it" in said
    finally:
        shutil.rmtree(folder)


def as_nobody(work: Callable[[], object]) -> str:
    """What came of it in a process that has given its rights up, as services do."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            said = str(work())
        except BaseException as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_port_of_this_machine_is_told_no_password_in_the_clear(file: Path) -> None:
    """Whoever listens there: nobody even connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        there = Place(f"postgresql://{ROLE}@127.0.0.1:{port}/ledger", password_file=file)
        assert "would be told the password" in refusal(lambda: ledger.migrate(there))
        assert "would be told the password" in refusal(lambda: ledger.for_asyncpg(ledger._engine(there)))
        listening.settimeout(0)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_the_socket_of_this_machine_takes_a_password_too(server: Server, file: Path) -> None:
    where = f"postgresql://{ROLE}@:{server.port}/ledger?host={server.folder}"
    ledger.migrate(Place(where, password_file=file))
    engine = ledger.open(Place(where, password_file=file))
    assert who(engine) == asyncio.run(who_is_the_queue(engine)) == (ROLE, False)
    engine.dispose()


def test_a_server_that_does_not_know_the_password_itself_is_not_believed(file: Path) -> None:
    """SCRAM shows both to each other (RFC 5802): a server that takes any answer has not shown anything."""
    folder = Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / ".s.PGSQL.5432"))
    listening.listen()
    thread = threading.Thread(target=take_any_password, args=(listening,))
    thread.start()
    try:
        there = Place(f"postgresql://{ROLE}@/ledger?host={folder}", password_file=file)
        said = refusal(lambda: ledger.migrate(there))
        assert "did not show that it knows the password" in said
        assert "signature" in said
    finally:
        listening.close()
        thread.join(30)
        shutil.rmtree(folder)


def take_any_password(listening: socket.socket) -> None:
    """PostgreSQL's protocol as far as the log-in, with a signature that is none."""
    connection, _ = listening.accept()
    connection.settimeout(30)
    with connection, connection.makefile("rwb") as stream:

        def asked(code: int, words: bytes) -> None:
            stream.write(b"R" + struct.pack("!ii", 8 + len(words), code) + words)
            stream.flush()

        def answer() -> bytes:
            kind = stream.read(1)
            assert kind == b"p"
            return bytes(stream.read(struct.unpack("!i", stream.read(4))[0] - 4))

        stream.read(struct.unpack("!i", stream.read(4))[0] - 4)
        asked(10, b"SCRAM-SHA-256\0\0")
        nonce = answer().rpartition(b"r=")[2]
        asked(11, b"r=" + nonce + b"more,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4096")
        answer()
        asked(12, b"v=" + b"A" * 43 + b"=")
        stream.read(1)
