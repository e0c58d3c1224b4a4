# Three machines share one campaign through PostgreSQL: one is killed, and one is cut off from the database while it
# still reaches the relay. Nobody is left out, at most what was on its way comes twice, and the minute is that of all.

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cables import Cable, Machine, connect, machine
from sqlalchemy import create_engine, func, select, text

from postgresql_server import Server, start_postgresql
from todoku.campaign import campaigns, lists, tokens
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.rehearsal.internet.pki import Authority
from todoku.store import campaign as store
from todoku.store import campaign_schema as schema

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/campaign"))
from campaign_place import agree, settings
from sink import Sink

WORKER = Path(__file__).parents[1] / "unit/campaign/worker_process.py"
NAMES = ("one", "two", "three")
CONNECTIONS = 5  # of the settings
PATIENCE = 120.0  # seconds
LEASE = 5.0  # seconds; a busy machine may stand still for some
COUNT = 300
A_MINUTE = 240  # of the plan's 300, less the share of personal mail
PLAN = {"per_minute": 300, "per_day": 50_000, "per_month": 1_500_000}
PER_SECOND = 60  # and so many at most in a worker's first batch: none has the whole minute
LOOK = 0.5  # seconds between two looks for something to do
LATENCY = 0.03  # seconds for an answer of the relay
FIRST = 3  # of each worker's messages are answered at once


@dataclass
class Apart:
    """The machines: PostgreSQL and the relay on the hub, and each worker with a cable to either."""

    hub: Machine
    workers: dict[str, Machine]
    to_database: dict[str, Cable]
    server: Server
    authority: Authority
    folder: Path

    def database(self, worker: str, name: str) -> str:
        address = f"10.91.{NAMES.index(worker)}.1"
        return f"postgresql://postgres@{address}/{name}?sslrootcert={self.authority.certificate_path}"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    authority = Authority.create(folder / "authority")
    with ExitStack() as running:
        hub = running.enter_context(machine())
        workers = {name: running.enter_context(machine()) for name in NAMES}
        to_database = {}
        for number, (name, there) in enumerate(workers.items()):
            to_database[name] = connect(hub, there, f"data{number}", f"10.91.{number}")
            connect(hub, there, f"mail{number}", f"10.92.{number}")
        addresses = [f"10.91.{number}.1" for number in range(len(NAMES))]
        server = running.enter_context(
            start_postgresql(
                Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp")),
                inside=hub.inside,
                listens=",".join(addresses),
                certificate=authority.issue(addresses, folder),
            )
        )
        yield Apart(hub, workers, to_database, server, authority, folder)


@dataclass
class Answers:
    """Of a relay that answers the first messages of each worker, and keeps the others waiting until it is to go on."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    log: list[tuple[str, str]] = field(default_factory=list)  # who has handed over a message, and for whom
    unanswered: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    async def __call__(self, address: str, recipient: str) -> None:
        worker = NAMES[int(address.split(".")[2])]
        self.log.append((worker, recipient))
        self.unanswered[worker].add(recipient)
        await asyncio.sleep(LATENCY)
        if len(self.by(worker)) > FIRST:
            await self.go_on.wait()
        self.unanswered[worker].discard(recipient)

    def by(self, worker: str, since: int = 0) -> list[str]:
        return [recipient for who, recipient in self.log[since:] if who == worker]


@dataclass
class Campaign:
    """One database, with people, and what moves its clock."""

    opened: Opened
    name: str
    folder: Path
    ahead: float = 0.0

    def move(self, seconds: float) -> None:
        self.ahead += seconds
        fresh = self.folder / "ahead.new"
        fresh.write_text(str(self.ahead))
        fresh.rename(self.folder / "ahead")

    @property
    def now(self) -> float:
        return time.time() + self.ahead

    def begin(self, name: str, count: int) -> None:
        people = lists.create(self.opened, name, name, "", double=True, is_open=True)
        with self.opened.write() as connection:
            for number in range(count):
                agree(self.opened, connection, people, f"p{number}@{name}.example")
        campaigns.create(self.opened, name, name, Source("Hi", "Hello {{ address }}"))
        campaigns.start(self.opened, name)

    def numbers(self, campaign: int = 1) -> campaigns.Numbers:
        with self.opened.read() as connection:
            return campaigns.numbers(connection, campaign)

    @property
    def held(self) -> int:
        """Rows of workers that are alive, as far as the database can know."""
        got = schema.recipient
        query = select(func.count()).where(got.c.state == "leased", got.c.due > self.now)
        with self.opened.read() as connection:
            return int(connection.execute(query).scalar_one())


@pytest.fixture
def campaign(apart: Apart, tmp_path: Path) -> Iterator[Campaign]:
    name = f"campaign_{time.monotonic_ns()}"
    place = store.place(apart.server.database(name))
    store.migrate(place)
    tokens.make(tmp_path / "key")
    engine = store.open(place, kept=True)
    opened = Opened(engine, tokens.read(tmp_path / "key"), settings(plan=PLAN))
    made = Campaign(opened, name, tmp_path)
    made.move(0)
    yield made
    engine.dispose()


@dataclass
class Worker:
    """A process on a machine of its own, which is started again when it has ended, as systemd would."""

    apart: Apart
    name: str
    campaign: Campaign
    port: int
    process: asyncio.subprocess.Process | None = None
    ends: list[int] = field(default_factory=list)

    @property
    def said(self) -> str:
        return (self.campaign.folder / f"{self.name}.log").read_text()

    @property
    def refused(self) -> int:
        """How often it had to wait for the minute to pass."""
        return self.said.count("nothing is sent")

    @property
    def cable(self) -> Cable:
        return self.apart.to_database[self.name]

    async def start(self) -> None:
        number, folder = NAMES.index(self.name), self.campaign.folder
        given = {
            "name": self.name,
            "plan": PLAN,
            "campaign": {"per_second": PER_SECOND},
            "database": self.apart.database(self.name, self.campaign.name),
            "key": str(folder / "key"),
            "limits": str(folder / f"{self.name}.limits"),
            "relay": [f"10.92.{number}.1", self.port],
            "lease": LEASE,
            "ahead": str(folder / "ahead"),
            "look": LOOK,
        }
        with (folder / f"{self.name}.log").open("ab") as said:
            self.process = await asyncio.create_subprocess_exec(
                *self.apart.workers[self.name].inside, sys.executable, WORKER,
                json.dumps(given), stderr=said,
            )  # fmt: skip

    async def started_again(self) -> None:
        """For ever."""
        while True:
            assert self.process is not None
            self.ends.append(await self.process.wait())
            await asyncio.sleep(0.5)
            await self.start()

    async def end(self, number: signal.Signals) -> int:
        """The exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()


async def until(what: str, is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"still not: {what}"
        await asyncio.sleep(0.02)


async def in_the_middle(workers: list[Worker], campaign: Campaign, answers: Answers) -> None:
    """Each has sent some, and has something on its way; every answer that was heard is recorded."""
    for each in workers:
        await each.start()

    def all_wait() -> bool:
        return all(answers.unanswered[each.name] and len(answers.by(each.name)) > FIRST for each in workers)

    def is_recorded() -> bool:
        return campaign.numbers().sent == len(answers.log) - sum(map(len, answers.unanswered.values()))

    await until("all have sent some, and wait for answers", lambda: all_wait() and is_recorded())


async def to_the_end(campaign: Campaign, answers: Answers, worker: Worker) -> list[int]:
    """Minute after minute, until that worker has sent all. How many went in each."""
    minutes, before, begun, refused = [], 0, time.monotonic(), 0

    def is_over() -> bool:
        """It has been told that there is no room, and nobody else has any rows."""
        return worker.refused > refused and not campaign.held

    while campaign.numbers().left:
        await until("sent, or the minute is used up", lambda: not campaign.numbers().left or is_over())
        # A machine that takes a minute for it has room for more.
        assert len(answers.log) - before <= A_MINUTE * (1 + (time.monotonic() - begun) // 60)
        minutes.append(len(answers.log) - before)
        before, begun, refused = len(answers.log), time.monotonic(), worker.refused
        campaign.move(120)
    return minutes


def lost_and_doubled(sink: Sink, count: int) -> set[str]:
    """Who got two, which can be told to be one. Nobody got nothing or three."""
    assert set(sink.counts) == {f"p{number}@spring.example" for number in range(count)}
    assert max(sink.counts.values()) <= 2
    assert len({message_id for _, message_id in sink.taken}) == count
    return {recipient for recipient, times in sink.counts.items() if times > 1}


@dataclass
class Sending:
    """Three workers and their relay."""

    workers: list[Worker]
    sink: Sink
    answers: Answers


Work = Callable[[Sending], Awaitable[None]]
Run = Callable[[Work], None]


@pytest.fixture
def sending(apart: Apart, campaign: Campaign) -> Run:
    """Runs what is given, and ends the workers."""

    async def run(work: Work) -> None:
        answers = Answers()
        listener = apart.hub.listen("0.0.0.0")
        workers = [Worker(apart, name, campaign, listener.getsockname()[1]) for name in NAMES]
        async with Sink(listener=listener, before_answer=answers) as sink:
            try:
                await work(Sending(workers, sink, answers))
            finally:
                for each in workers:
                    each.cable.plug_in()
                    if each.process is not None:
                        print(each.name, await each.end(signal.SIGKILL), each.said)

    return lambda work: asyncio.run(run(work))


async def one_is_killed_and_one_cut_off(
    sending: Sending, campaign: Campaign, returns: Callable[[Worker], Awaitable[None]]
) -> None:
    """`returns` waits until the one that was cut off gets its connection again."""
    one, two, three = workers = sending.workers
    answers = sending.answers
    campaign.begin("spring", COUNT)
    await in_the_middle(workers, campaign, answers)
    assert await one.end(signal.SIGKILL) == -signal.SIGKILL
    two.cable.pull()
    cut_off = len(answers.log)
    again = asyncio.create_task(two.started_again())
    waiting = {name: set(answers.unanswered[name]) for name in (one.name, two.name)}
    answers.go_on.set()
    minutes = await to_the_end(campaign, answers, three)
    await returns(two)
    # What the relay had not read yet is on its way as well. More there is not: it could not have been recorded.
    on_its_way = {name: waiting[name] | set(answers.by(name, cut_off)) for name in waiting}
    assert all(len(each) <= CONNECTIONS for each in on_its_way.values())
    doubled = lost_and_doubled(sending.sink, COUNT)
    assert doubled <= on_its_way["one"] | on_its_way["two"]
    counts = " and ".join(str(len(each)) for each in on_its_way.values())
    print(f"{COUNT} recipients, {minutes} by minutes: 0 lost, {counts} on their way, {len(doubled)} doubled")

    # With its connection, it goes on as if nothing had been.
    assert await three.end(signal.SIGTERM) == 0, three.said
    campaign.begin("summer", 20)
    before, refused = len(answers.log), two.refused
    two.cable.plug_in()
    # What the others have sent meanwhile may count as sent now in the gate of its machine.
    await until("it is back", lambda: campaign.numbers(2).sent > 0 or two.refused > refused)
    if not campaign.numbers(2).sent:
        campaign.move(120)
    await until("the one that was cut off has sent all", lambda: campaign.numbers(2).sent == 20)
    again.cancel()
    assert await two.end(signal.SIGTERM) == 0, two.said
    assert Counter(answers.log[before:]) == {
        (two.name, f"p{number}@summer.example"): 1 for number in range(20)
    }
    assert campaign.numbers().sent == COUNT


def test_nobody_is_left_out_and_the_minute_is_that_of_all_three(sending: Run, campaign: Campaign) -> None:
    async def at_once(_: Worker) -> None:
        """It has waited, unless this machine is so slow that it has ended meanwhile."""

    sending(lambda them: one_is_killed_and_one_cut_off(them, campaign, at_once))


@pytest.mark.slow  # a minute: it ends when PostgreSQL has not answered for half a minute, and again
def test_who_stays_cut_off_ends_in_words_and_goes_on_when_it_is_started_again(
    sending: Run, campaign: Campaign
) -> None:
    async def once_it_has_ended(two: Worker) -> None:
        await until("it has ended by itself", lambda: bool(two.ends))
        assert 0 not in two.ends
        assert re.search("cannot go on: the .*campaign database.* could not be used", two.said)

    sending(lambda them: one_is_killed_and_one_cut_off(them, campaign, once_it_has_ended))


@pytest.mark.slow  # the 15 seconds until PostgreSQL gives up who does not go on
def test_who_is_cut_off_in_the_middle_of_a_transaction_does_not_keep_the_others_waiting(
    sending: Run, campaign: Campaign
) -> None:
    campaign.begin("spring", 20)
    sending(lambda them: one_is_cut_off_while_it_counts(them, campaign))


async def one_is_cut_off_while_it_counts(sending: Sending, campaign: Campaign) -> None:
    _, two, three = sending.workers
    sending.answers.go_on.set()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    engine = create_engine(campaign.opened.engine.url)
    with engine.begin() as ours, engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looks:
        # It has the row of the pace by then, which everybody needs.
        ours.execute(text(f"LOCK TABLE {schema.spent.name} IN SHARE MODE"))
        await two.start()
        await until("it waits for us", lambda: looks.execute(text(waits)).scalar_one() == 1)
        two.cable.pull()
    engine.dispose()
    await three.start()
    await until("the other one has sent all", lambda: campaign.numbers().sent == 20)
    assert {who for who, _ in sending.answers.log} == {three.name}
    assert three.process is not None
    assert three.process.returncode is None
