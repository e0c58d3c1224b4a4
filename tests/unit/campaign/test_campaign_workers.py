# Several machines send one campaign: whoever dies leaves nothing behind but what was on its way, nobody gets it twice
# because two took the same row, and the limits of the settings are those of all together.

from __future__ import annotations

import asyncio
import dataclasses
import email
import json
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from campaign_place import Clock, agree, settings
from sink import Sink
from sqlalchemy import select, text

from postgresql_server import Server as PostgreSQL
from postgresql_server import start_postgresql
from todoku.campaign import campaigns, forms, leases, lists, relayed, rows, tokens, unconfirmed
from todoku.campaign.errors import CampaignError
from todoku.campaign.message import message_id
from todoku.campaign.opened import Opened
from todoku.campaign.rolled_back import LastSent
from todoku.campaign.rows import Leased, Result
from todoku.campaign.sender import Sender
from todoku.campaign.shared_pace import SharedPace
from todoku.campaign.template import Source
from todoku.delivery.entries import Heard
from todoku.gate.limits import Limits
from todoku.gate.spent import used
from todoku.store import StoreError
from todoku.store import campaign as store
from todoku.store import campaign_schema as schema

PLAN = {"per_minute": 18_000, "per_day": 50_000, "per_month": 1_500_000}
CONNECTIONS = 5  # of the settings
PATIENCE = 120.0  # seconds
LEASE = 6.0  # seconds; a busy machine may stand still for some
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


def some(opened: Opened, held: leases.Held, most: int = 10) -> list[Leased]:
    with opened.write() as connection:
        now = opened.clock()
        return rows.lease(connection, 1, most, now, held.lease(now))


def write(opened: Opened, held: leases.Held, *results: Result) -> None:
    with opened.write() as connection:
        rows.write(connection, results, held.owner)


def test_a_row_is_anothers_once_its_lease_has_ended_and_what_its_first_owner_says_is_not_taken(
    shared: Opened, clock: Clock
) -> None:
    campaign(shared, 3)
    first, second = leases.Held(60), leases.Held(60)
    (mine, *_) = some(shared, first)
    clock.now += 59
    assert some(shared, second) == []
    clock.now += 2
    assert mine.id in {each.id for each in some(shared, second)}
    write(shared, second, Result(mine.id, "sent", clock.now, 250))
    write(shared, first, Result(mine.id, "deferred", clock.now, 451, "too late", due=clock.now))
    assert (states(shared).sent, states(shared).deferred) == (1, 0)


def test_renewed_leases_go_on_and_a_row_is_given_to_one_only(shared: Opened, clock: Clock) -> None:
    campaign(shared, 3)
    first, second = leases.Held(60), leases.Held(60)
    assert len(some(shared, first, 2)) == 2
    clock.now += 50
    with shared.write() as connection:
        assert rows.renew(connection, first.lease(clock.now)) == 2
    clock.now += 50
    assert len(some(shared, second)) == 1


def test_two_that_lease_at_the_same_moment_do_not_wait_for_each_other(shared: Opened, clock: Clock) -> None:
    campaign(shared, 4)
    first, second = leases.Held(60), leases.Held(60)
    with shared.write() as one, shared.write() as other:
        mine = rows.lease(one, 1, 2, clock.now, first.lease(clock.now))
        theirs = rows.lease(other, 1, 4, clock.now, second.lease(clock.now))
    assert len(mine) == len(theirs) == 2
    assert {each.id for each in mine}.isdisjoint(each.id for each in theirs)


def test_who_renews_too_late_sends_nothing_of_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(leases, "machine_clock", lambda: now)
    held = leases.Held(60)
    held.renewed(now)
    before = held.term
    now += 44
    assert held.holds(before)
    now += 2  # a quarter of the lease is left to be sure
    assert not held.holds(before)
    held.renewed(now)
    assert not held.holds(before)
    assert held.holds(held.term)


async def both(opened: Opened, sink: Sink, folder: Path) -> None:
    workers = [
        Sender(opened, sink.relay, Limits(opened.settings, folder / name / "limits"), lease=5.0)
        for name in ("one", "two")
    ]
    await asyncio.gather(*(each.run(until_idle=True) for each in workers))


def test_the_plan_of_a_day_is_that_of_all_workers(shared: Opened, tmp_path: Path) -> None:
    plan = {"per_minute": 50, "per_day": 50, "per_month": 1000}
    shared = dataclasses.replace(shared, settings=settings(plan=plan, per_second=10_000))
    campaign(shared, 90)

    async def run() -> Sink:
        async with Sink() as sink:
            await both(shared, sink, tmp_path)
            await both(shared, sink, tmp_path)  # started again: that changes nothing
            return sink

    sink = asyncio.run(run())
    assert len(sink.taken) == 40  # less the share of personal mail
    assert (states(shared).sent, states(shared).left) == (40, 50)


def test_who_never_confirmed_is_removed_and_who_does_so_at_that_moment_is_not(
    shared: Opened, clock: Clock
) -> None:
    number = lists.create(shared, "open", "Open", "News", double=True, is_open=True)
    with shared.read() as connection:
        row = lists.find(connection, "open")
    for name in ("late", "never"):
        forms.ask(shared, row, forms.Asked(f"{name}@mailbox.example", "ja", "192.0.2.1", "/subscribe/open"))
    clock.now += 31 * 86_400
    with shared.read() as connection:
        late = lists.subscriber(connection, "late@mailbox.example")
    assert late is not None
    with ThreadPoolExecutor(1) as others:
        with shared.write() as confirming:
            said = lists.Evidence("confirmed", "test", "News")
            lists.set_membership(confirming, number, late.id, lists.Membership.CONFIRMED, said, clock.now)
            forgetting = others.submit(unconfirmed.forget, shared)
            until_somebody_waits(shared)
        assert forgetting.result(30) == 1
    with shared.read() as connection:
        assert lists.subscriber(connection, "never@mailbox.example") is None
        held = lists.membership(connection, number, late.id)
    assert held is not None and held.state == "confirmed"


def until_somebody_waits(shared: Opened) -> None:
    """For a lock in that database."""
    asked = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with shared.read() as connection:
            if connection.scalar(asked):
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_a_machine_with_another_key_does_not_send(shared: Opened, tmp_path: Path) -> None:
    campaign(shared, 1)
    tokens.make(tmp_path / "other")
    other = dataclasses.replace(shared, keys=tokens.read(tmp_path / "other"))

    async def run() -> None:
        async with Sink() as sink:
            await both(shared, sink, tmp_path)
            with pytest.raises(CampaignError, match="copy /var/lib/todoku/campaign/key"):
                await both(other, sink, tmp_path)

    asyncio.run(run())


# The pace of all together, with a clock that is moved.


def paced(opened: Opened, folder: Path, name: str) -> tuple[SharedPace, Limits]:
    limits = Limits(opened.settings, folder / name / "limits")
    pace = SharedPace(opened, limits, name)
    with opened.write() as connection:
        pace.load(connection, opened.clock())
    return pace, limits


def with_pace(opened: Opened, **more: object) -> Opened:
    return dataclasses.replace(opened, settings=settings(**{"plan": PLAN, "per_second": 10_000, **more}))


def test_a_minute_has_room_for_all_once(shared: Opened, clock: Clock, tmp_path: Path) -> None:
    plan = {"per_minute": 100, "per_day": 10_000, "per_month": 100_000}
    shared = with_pace(shared, plan=plan)
    (first, _), (second, _) = paced(shared, tmp_path, "one"), paced(shared, tmp_path, "two")
    assert first.allow(60, clock.now).count == 60
    assert second.allow(60, clock.now).count == 20
    full = second.allow(60, clock.now)
    assert (full.count, full.words) == (0, "80 a minute for all workers together")
    assert clock.now + 60 < full.until <= clock.now + 62
    granted = clock.now
    clock.now += 3
    first.give_back(10, granted)
    assert second.allow(60, clock.now).count == 10
    clock.now += 59  # what was given back counts when it was granted: later it would be room beyond the limit
    assert second.allow(200, clock.now).count == 70


def test_a_second_has_room_for_all_once(shared: Opened, clock: Clock, tmp_path: Path) -> None:
    shared = with_pace(shared, per_second=10)
    (first, _), (second, _) = paced(shared, tmp_path, "one"), paced(shared, tmp_path, "two")
    counts = [pace.allow(8, clock.now).count for pace in (first, second, first, second)]
    assert sum(counts) == 10
    clock.now += 0.5
    assert second.allow(8, clock.now).count == 5


def test_a_domain_has_room_for_all_once_in_a_minute(shared: Opened, clock: Clock, tmp_path: Path) -> None:
    shared = with_pace(shared, per_domain_per_minute=3)
    campaign(shared, 10)
    went = 0
    for name in ("one", "two"):
        pace, _ = paced(shared, tmp_path, name)
        held = leases.Held(60)
        with shared.write() as connection:
            jobs = rows.lease(connection, 1, 5, clock.now, held.lease(clock.now))
            pace.admit(connection, jobs, clock.now)
        waits = [pace.domain_until(each.domain, clock.now) for each in jobs]
        went += sum(wait == 0 for wait in waits)
        assert all(clock.now + 60 < wait <= clock.now + 62 for wait in waits if wait)
    assert went == 3


def test_the_days_of_a_warm_up_are_those_of_all(shared: Opened, clock: Clock, tmp_path: Path) -> None:
    shared = with_pace(shared, warm_up=10)
    (first, _), (second, _) = paced(shared, tmp_path, "one"), paced(shared, tmp_path, "two")
    assert first.allow(100, clock.now).count + second.allow(100, clock.now).count == 10
    clock.now += 86_400
    assert second.allow(100, clock.now).count + first.allow(100, clock.now).count == 15


def test_after_gmails_4_7_28_one_worker_tries_again_and_the_others_leave_it_alone(
    shared: Opened, clock: Clock, tmp_path: Path
) -> None:
    (first, _), (second, _) = paced(shared, tmp_path, "one"), paced(shared, tmp_path, "two")
    assert first.domain_until("gmail.com", clock.now) == 0.0
    assert second.domain_until("gmail.com", clock.now) == 0.0
    for pace in (first, second):  # both hear it: the last one has it
        pace.arrived("gmail.com", "4.7.28 unusual rate", clock.now)
        with shared.write() as connection:
            pace.keep(connection, clock.now)
    clock.now += 601
    for pace in (first, second):
        with shared.write() as connection:
            pace.admit(connection, [], clock.now)
    assert first.domain_until("gmail.com", clock.now) > clock.now
    assert second.domain_until("gmail.com", clock.now) == 0.0
    assert second.domain_until("gmail.com", clock.now) > 0  # one at a time
    assert first.domain_until("yahoo.com", clock.now) == 0.0
    clock.now += 60 * CONNECTIONS
    with shared.write() as connection:
        first.admit(connection, [], clock.now)
    assert first.domain_until("gmail.com", clock.now) == 0.0


def test_personal_mail_of_a_machine_knows_what_the_others_send(
    shared: Opened, clock: Clock, tmp_path: Path
) -> None:
    (first, _), (second, here) = paced(shared, tmp_path, "one"), paced(shared, tmp_path, "two")
    second.allow(1, clock.now)
    first.allow(200, clock.now)
    first.give_back(50, clock.now)
    second.allow(1, clock.now)
    assert here.grant(0, clock.now).count == 0
    with closing(sqlite3.connect(tmp_path / "two" / "limits")) as connection:
        assert used(connection, int(clock.now))["in 24 hours"] == 152


def test_what_a_dead_worker_left_of_a_cancelled_campaign_is_cancelled_when_its_lease_has_ended(
    shared: Opened, clock: Clock
) -> None:
    campaign(shared, 5)
    held = leases.Held(60)
    mine, other, *_ = some(shared, held, 3)
    campaigns.cancel(shared, "spring")
    write(shared, held, Result(mine.id, "sent", clock.now, 250))
    write(shared, held, Result(other.id, "deferred", clock.now, 451, "later", due=clock.now + 300))
    for passed, leased in ((0, 1), (59, 1), (2, 0)):
        clock.now += passed
        with shared.write() as connection:
            rows.cancel_left(connection, clock.now)
        assert states(shared).leased == leased
    assert (states(shared).sent, states(shared).cancelled) == (1, 4)
    assert states(shared).left == 0


def test_what_the_relays_log_says_and_an_older_copy_are_known_in_postgresql_too(
    shared: Opened, clock: Clock, tmp_path: Path
) -> None:
    campaign(shared, 3)
    with shared.write() as connection:
        ids = [
            message_id(shared.keys, row.campaign, row.id, row.subscriber)
            for row in connection.execute(select(schema.recipient).order_by(schema.recipient.c.id))
        ]
    told = ("relay", "suppressed", "bounce")
    heard = [
        Heard(
            clock.now,
            "",
            str(number),
            action,
            f"p{number}@mailbox.example",
            f"{ids[number]}@hoge.example",
            "",
            "",
        )
        for number, action in enumerate(told)
    ]
    assert relayed.hear(shared, heard) == relayed.hear(shared, heard) == 3
    found = states(shared)
    assert (found.sent, found.suppressed, found.relayed, found.bounced) == (2, 1, 1, 1)
    too_fast = heard[2]._replace(words="421 4.7.28 unusual rate", address="x@gmail.com")
    relayed.hear(shared, [too_fast])
    paces = [
        SharedPace(shared, Limits(shared.settings, tmp_path / f"limits{number}"), f"worker {number}")
        for number in (1, 2)
    ]
    for each in paces:
        with shared.write() as connection:
            each.admit(connection, [], clock.now)
    assert all(each.domain_until("gmail.com", clock.now) >= clock.now + 600 for each in paces)
    assert [each.domain_until("gmail.com", clock.now + 601) > 0 for each in paces] == [
        False,
        True,
    ]  # one tries
    last = LastSent(tmp_path)
    last.note(clock.now)
    assert last.check(shared) == ()
    LastSent(tmp_path).note(clock.now + 5)
    assert last.check(shared) == ("spring",)


def test_who_holds_the_pace_and_does_not_go_on_is_given_up_by_the_server(
    database: str, shared: Opened, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace, _ = paced(shared, tmp_path, "one")
    quick = store.GIVE_UP_WHO_IS_CUT_OFF.replace("'15s'", "'500ms'")
    monkeypatch.setattr(store, "GIVE_UP_WHO_IS_CUT_OFF", quick)
    engine = store.open(store.place(database))
    with pytest.raises(StoreError, match="campaign database"), store.write(engine) as connection:
        connection.execute(select(schema.shared_pace).with_for_update())
        assert pace.allow(1, clock.now).count == 1
    engine.dispose()
