# Several machines send one campaign: whoever dies leaves nothing behind but what was on its way, nobody gets it twice
# because two took the same row, and the limits of the settings are those of all together.

from __future__ import annotations

import asyncio
import dataclasses
import email
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from campaign_place import Clock, agree, settings
from sink import Sink

from postgresql_server import Server as PostgreSQL
from postgresql_server import start_postgresql
from todoku.campaign import campaigns, lists, tokens
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.store import campaign as store

PLAN = {"per_minute": 18_000, "per_day": 50_000, "per_month": 1_500_000}
CONNECTIONS = 5  # of the settings
PATIENCE = 120.0  # seconds
LEASE = 3.0  # seconds
COUNT = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    with start_postgresql(Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))) as started:
        yield started


@pytest.fixture
def database(server: PostgreSQL) -> str:
    return server.database(f"campaign_{time.monotonic_ns()}")


@pytest.fixture
def shared(database: str, tmp_path: Path, clock: Clock) -> Iterator[Opened]:
    place = store.place(database)
    store.migrate(place)
    tokens.make(tmp_path / "key")
    engine = store.open(place, kept=True)
    yield Opened(engine, tokens.read(tmp_path / "key"), settings(plan=PLAN, per_second=10_000), clock)
    engine.dispose()


def campaign(opened: Opened, count: int) -> None:
    news = lists.create(opened, "news", "News", "Once a month", double=True, is_open=True)
    with opened.write() as connection:
        for number in range(count):
            agree(opened, connection, news, f"p{number}@mailbox.example")
    campaigns.create(opened, "spring", "news", Source("Hi", "Hello {{ address }}"))
    campaigns.start(opened, "spring")


def states(opened: Opened) -> campaigns.Numbers:
    with opened.read() as connection:
        return campaigns.numbers(connection, 1)


async def until(what: str, is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"still not: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Hanging:
    """A relay that says nothing any more at the end of a message, once it has taken some."""

    answers: int
    taken: list[tuple[str, str]] = field(default_factory=list)
    hangs: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        recipient = ""
        while line := await reader.readline():
            if line.startswith(b"RCPT"):
                recipient = line.decode().partition("<")[2].partition(">")[0]
            if line.startswith(b"DATA"):
                writer.write(b"354 Go\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self.taken.append((recipient, email.message_from_bytes(content)["Message-ID"]))
                if len(self.taken) > self.answers:
                    self.hangs += 1
                    await reader.read()
                    return
            writer.write(b"250 Ok\r\n")


async def start_worker(
    folder: Path, database: str, name: str, relay: tuple[str, int], per_second: int
) -> asyncio.subprocess.Process:
    given = {
        "name": name,
        "plan": PLAN,
        "campaign": {"per_second": per_second},
        "database": database,
        "key": str(folder / "key"),
        "limits": str(folder / f"{name}.limits"),
        "relay": relay,
        "lease": LEASE,
    }
    script = str(Path(__file__).with_name("worker_process.py"))
    with (folder / f"{name}.log").open("ab") as said:
        return await asyncio.create_subprocess_exec(sys.executable, script, json.dumps(given), stderr=said)


async def one_is_killed(opened: Opened, folder: Path, database: str, hanging: Hanging, sink: Sink) -> None:
    server = await asyncio.start_server(hanging.serve, "127.0.0.1", 0)
    there: tuple[str, int] = server.sockets[0].getsockname()
    first = await start_worker(folder, database, "one", there, 100)
    second = None
    try:
        await until("the first one waits for its answers", lambda: hanging.hangs == CONNECTIONS)
        held = states(opened).leased
        assert held > CONNECTIONS
        second = await start_worker(folder, database, "two", (sink.relay.host, sink.relay.port), 100)
        # Its leases are renewed as long as it lives: the other one leaves them alone.
        await until("the second one has sent the rest", lambda: states(opened).sent == COUNT - held)
        await asyncio.sleep(LEASE + 0.5)
        assert states(opened).leased == held
        first.send_signal(signal.SIGKILL)
        await first.wait()
        await until("the second one has taken over", lambda: states(opened).left == 0)
        second.send_signal(signal.SIGTERM)
        assert await second.wait() == 0, (folder / "two.log").read_text()
    finally:
        server.close()
        for process in (first, second):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()


def test_what_a_killed_worker_had_is_sent_by_the_other(shared: Opened, database: str, tmp_path: Path) -> None:
    opened = dataclasses.replace(shared, clock=time.time)
    campaign(opened, COUNT)
    hanging = Hanging(20)

    async def run() -> Sink:
        async with Sink() as sink:
            await one_is_killed(opened, tmp_path, database, hanging, sink)
            return sink

    sink = asyncio.run(run())
    taken = hanging.taken + sink.taken
    counts = Counter(to for to, _ in taken)
    assert states(opened).sent == COUNT
    assert set(counts) == {f"p{number}@mailbox.example" for number in range(COUNT)}
    assert sum(counts.values()) - COUNT == CONNECTIONS  # what was on its way, and had been taken
    assert len({message_id for _, message_id in taken}) == COUNT  # who got two can tell that they are one
    assert len(sink.taken) > CONNECTIONS
