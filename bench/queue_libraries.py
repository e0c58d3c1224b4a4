"""PgQueuer beside procrastinate: jobs a second, put into PostgreSQL, and taken and finished by one worker and by two.

By hand, in an environment of its own, as procrastinate is none of ours:

    pip install 'pgqueuer[asyncpg]' procrastinate 'psycopg[binary]'
    python bench/queue_libraries.py COUNT ROUNDS HOST          # HOST: a folder with the socket of a PostgreSQL

A job does nothing. Each library is used as its documentation has it, with ten jobs at a time in each worker. In turn,
each in a database of its own; figures are medians of the rounds.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from statistics import median

AT_ONCE = 10


async def pgqueuer_puts(database: dict[str, str], count: int) -> None:
    import asyncpg
    from pgqueuer.queries import Queries

    connection = await asyncpg.connect(**database)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    for begin in range(0, count, 1000):
        some = min(1000, count - begin)
        await queries.enqueue(["nothing"] * some, [b"1"] * some, [0] * some)
    await connection.close()


async def pgqueuer_works(database: dict[str, str]) -> None:
    import asyncpg
    from pgqueuer import QueueManager
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    connection = await asyncpg.connect(**database)
    manager = QueueManager(Queries.from_asyncpg_connection(connection))

    @manager.entrypoint("nothing")
    async def nothing(_job: object) -> None:
        pass

    await manager.run(batch_size=AT_ONCE, mode=QueueExecutionMode.drain)
    await connection.close()


async def procrastinate_puts(database: dict[str, str], count: int) -> None:
    app = _app(database)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for begin in range(0, count, 1000):
            task = app.configure_task("nothing")
            await task.batch_defer_async(*[{"number": 1}] * min(1000, count - begin))


async def procrastinate_works(database: dict[str, str]) -> None:
    app = _app(database)

    @app.task(name="nothing")
    async def nothing(number: int) -> None:
        pass

    async with app.open_async():
        await app.run_worker_async(wait=False, concurrency=AT_ONCE, delete_jobs="always")


def _app(database: dict[str, str]):  # type: ignore[no-untyped-def]
    from procrastinate import App, PsycopgConnector

    return App(
        connector=PsycopgConnector(
            kwargs={"host": database["host"], "user": database["user"], "dbname": database["database"]}
        )
    )


PUTS: dict[str, Callable] = {"pgqueuer": pgqueuer_puts, "procrastinate": procrastinate_puts}  # type: ignore[type-arg]
WORKS: dict[str, Callable] = {"pgqueuer": pgqueuer_works, "procrastinate": procrastinate_works}  # type: ignore[type-arg]


def main() -> None:
    if sys.argv[1] == "work":
        library, host, name = sys.argv[2:]
        import_module("asyncpg" if library == "pgqueuer" else "psycopg_pool"), import_module(library)
        print("READY", flush=True)
        sys.stdin.readline()
        asyncio.run(WORKS[library](_database(host, name)))
        return
    count, rounds, host = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for workers in (1, 2):
            for library in PUTS:
                put, finished = measure(library, workers, count, host)
                found.setdefault((library, "put"), []).append(put)
                found.setdefault((library, f"taken and finished by {workers}"), []).append(finished)
    for (library, what), rates in sorted(found.items()):
        print(f"{library} {version(library)}: {median(rates):.0f} jobs a second {what}")


def measure(library: str, workers: int, count: int, host: str) -> tuple[float, float]:
    """Jobs a second: put, and finished."""
    name = f"{library}_{time.monotonic_ns()}"
    _psql(host, "postgres", f"CREATE DATABASE {name}")
    begun = time.monotonic()
    asyncio.run(PUTS[library](_database(host, name), count))
    put = count / (time.monotonic() - begun)
    command = [sys.executable, __file__, "work", library, host, name]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(workers)
    ]
    for process in started:
        process.stdout.readline()  # type: ignore[union-attr]
    begun = time.monotonic()
    for process in started:
        process.communicate("\n")
    finished = count / (time.monotonic() - begun)
    table = "pgqueuer" if library == "pgqueuer" else "procrastinate_jobs"
    left = _psql(host, name, f"SELECT count(*) FROM {table}")  # noqa: S608 - one of ours
    if left != "0" or any(process.returncode for process in started):
        sys.exit(f"{library} has left {left} jobs")
    _psql(host, "postgres", f"DROP DATABASE {name}")
    return put, finished


def _database(host: str, name: str) -> dict[str, str]:
    return {"host": host, "user": "postgres", "database": name}


def _psql(host: str, name: str, statement: str) -> str:
    command = ["psql", "-qAt", "-h", host, "-U", "postgres", "-d", name, "-c", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
