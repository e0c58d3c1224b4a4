# A ledger that cannot be written must neither stop the agent nor lose anything: what was read is kept, tried again, and
# written once. A single line that the ledger will not take does not keep all the others out for ever.

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from postgresql_server import start_postgresql
from todoku.delivery import health
from todoku.delivery.agent import LONGEST, MOST, TRIES, Agent, Task
from todoku.delivery.entries import Attempt, Entry, Named, Removed
from todoku.delivery.follow import Folder, Follower
from todoku.delivery.maillog import MailLog
from todoku.delivery.record import Recorder
from todoku.delivery.sources import LogSource
from todoku.store import StoreUnusableError, ledger
from todoku.store import ledger_schema as schema

T = 1_795_507_939.0


class Lines:
    """A source of messages."""

    name = "lines"

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries, self.at, self.committed_at = list(entries), 0, 0

    @property
    def position(self) -> str:
        return str(self.at)

    def read(self) -> Sequence[Entry] | None:
        if self.at == len(self.entries):
            return None
        self.at += 1
        return [self.entries[self.at - 1]]

    def committed(self) -> None:
        self.committed_at = self.at


def message(number: int) -> list[Entry]:
    queue_id = f"4a{number}"
    return [
        Named(T, queue_id, f"<{number}@hoge.example>"),
        Attempt(T, queue_id, "smtp", "c@mailbox.example", "", "relay", "2.0.0", "sent", "250 Ok)"),
        Removed(T, queue_id),
    ]


class Broken(Recorder):
    """A recorder whose ledger is away while `away` is set, and that never takes what `refuses` says."""

    away = False
    refuses: Any = staticmethod(lambda _entry: False)

    def works(self) -> bool:
        return not self.away and super().works()

    def record(self, entries: Sequence[Entry], *arguments: Any, **named: Any) -> None:
        if self.away:
            raise StoreUnusableError("the disk is full")
        if any(self.refuses(entry) for entry in entries):
            raise StoreUnusableError("it does not like this")
        super().record(entries, *arguments, **named)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    place = ledger.Place(str(tmp_path / "ledger.sqlite3"))
    ledger.migrate(place)
    opened = ledger.open(place)
    yield opened
    opened.dispose()


def counted(engine: Engine) -> tuple[int, int, int]:
    with ledger.read(engine) as connection:
        message, recipient, attempt = (
            len(connection.execute(select(table.c.id)).all())
            for table in (schema.message, schema.recipient, schema.attempt)
        )
    return message, recipient, attempt


def test_a_ledger_that_is_away_stops_nothing_and_loses_nothing(sqlite: Engine) -> None:
    recorder, clock, done = Broken(sqlite), Clock(), []
    source = Lines([entry for number in range(4) for entry in message(number)])
    agent = Agent(recorder, [source], [Task("t", 0.0, lambda: done.append(1))], clock=clock)
    recorder.away = True
    for _ in range(100):
        agent.read_once()
        clock.now += 1
    said = agent.health()
    assert said.error == "the disk is full"
    assert said.pending == 12
    assert source.committed_at == 0
    assert counted(sqlite) == (0, 0, 0)
    recorder.away = False
    clock.now += LONGEST
    agent.read_once()
    assert counted(sqlite) == (4, 4, 4)
    assert source.committed_at == 12
    assert agent.health().error == ""
    assert agent.read_once() == 0


def test_it_is_not_asked_over_and_over_and_no_more_is_read_meanwhile(sqlite: Engine) -> None:
    recorder, clock = Broken(sqlite), Clock()
    recorder.away = True
    tries = []
    original = recorder.record
    recorder.record = lambda *a, **k: (tries.append(clock.now), original(*a, **k))  # type: ignore[method-assign]
    source = Lines([entry for number in range(3 * MOST) for entry in message(number)[:1]])
    agent = Agent(recorder, [source], clock=clock)
    for _ in range(600):
        agent.read_once()
        clock.now += 0.5
    assert source.at == MOST
    assert len(tries) < 20
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert max(pauses) <= LONGEST + 1


def test_tasks_are_done_and_it_can_be_stopped_while_the_ledger_is_away(sqlite: Engine) -> None:
    recorder, done = Broken(sqlite), threading.Event()
    recorder.away = True
    agent = Agent(
        recorder, [Lines(message(1))], [Task("t", 0.0, done.set)], sleep=lambda _s: time.sleep(0.01)
    )
    thread = threading.Thread(target=agent.run)
    thread.start()
    assert done.wait(5)
    agent.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert counted(sqlite) == (0, 0, 0)


def test_what_the_ledger_will_never_take_is_passed_over_and_the_rest_is_written(
    sqlite: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    recorder, clock = Broken(sqlite), Clock()
    bad = Named(T, "4bad", "<bad@hoge.example>")
    recorder.refuses = lambda entry: entry == bad
    entries = [entry for number in range(20) for entry in message(number)]
    source = Lines([*entries[:31], bad, *entries[31:]])
    agent = Agent(recorder, [source], clock=clock)
    for _ in range(TRIES):
        agent.read_once()
        clock.now += LONGEST
    agent.read_once()
    assert counted(sqlite) == (20, 20, 20)
    assert source.committed_at == 61
    assert agent.health().passed_over == 1
    assert "<bad@hoge.example>" in caplog.text


def test_a_mistake_of_ours_about_one_line_does_not_end_the_agent(sqlite: Engine) -> None:
    recorder, clock = Recorder(sqlite), Clock()
    wrong = message(3)[1]._replace(words=None)  # type: ignore[call-arg]
    source = Lines([*message(1), wrong, *message(2)])
    agent = Agent(recorder, [source], clock=clock)
    for _ in range(TRIES + 1):
        agent.read_once()
        clock.now += LONGEST
    assert counted(sqlite)[1:] == (2, 2)
    assert agent.health().passed_over == 1


def test_while_nothing_can_be_written_nothing_is_passed_over(sqlite: Engine) -> None:
    recorder, clock = Broken(sqlite), Clock()
    recorder.refuses = lambda _entry: True  # as a disk that has room for nothing but the smallest thing
    recorder.works = lambda: clock.now < 0  # type: ignore[method-assign]
    agent = Agent(recorder, [Lines(message(1))], clock=clock)
    for _ in range(30):
        agent.read_once()
        clock.now += LONGEST
    assert agent.health().passed_over == 0
    assert agent.health().pending == 3


# --- a real PostgreSQL that is killed in the middle


def line(number: int, what: str) -> str:
    stamp = "2026-11-24T08:12:19.000000+00:00"
    return f"{stamp} mx postfix/{what.partition(' ')[0]}[7]: 4pg{number:05}: {what.partition(' ')[2]}\n"


def lines(number: int) -> str:
    done = "delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)"
    sent = f"smtp to=<c@mailbox.example>, relay=r[192.0.2.20]:587, {done}"
    return (
        line(number, f"cleanup message-id=<{number}@hoge.example>")
        + line(number, "qmgr from=<a@hoge.example>, size=409, nrcpt=1 (queue active)")
        + line(number, sent)
        + line(number, "qmgr removed")
    )


def test_a_postgresql_that_is_killed_and_comes_back_has_everything_once(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))
    with start_postgresql(folder, durable=True) as server:
        server.run("createdb", "ledger")
        place = ledger.Place(f"postgresql://postgres@/ledger?host={folder}")
        ledger.migrate(place)
        engine, log = ledger.open(place), tmp_path / "mail.log"
        log.touch()
        agent = Agent(
            Recorder(engine),
            [LogSource(Follower(Folder(log)), MailLog())],
            sleep=lambda _seconds: time.sleep(0.02),
        )
        thread = threading.Thread(target=agent.run, daemon=True)
        thread.start()

        def write(numbers: range) -> None:
            with log.open("a") as file:
                for number in numbers:
                    file.write(lines(number))
                    file.flush()

        write(range(300))
        server.kill()
        write(range(300, 600))
        _until(lambda: agent.health().error)
        server.start()
        write(range(600, 700))
        _until(lambda: not agent.health().error and counted(engine)[0] == 700, 60)
        agent.stop()
        thread.join(10)
        assert counted(engine) == (700, 700, 700)
        with ledger.read(engine) as connection:
            states = connection.execute(text("SELECT DISTINCT state FROM recipient")).scalars().all()
        assert states == ["accepted"]
        engine.dispose()


def _until(what: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if what():
                return
        except StoreUnusableError:
            pass  # the server is on its way
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# --- how it is


def test_how_it_is_can_be_read_by_others(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    said = health.Health(T, "the disk is full", T - 5, 12.5, 3, 1)
    told = health.Told(file)
    told.tell(health.Health(T, "x" * 5000 + "\N{SNOWMAN}" * 900))
    assert (health.read(file) or said).error == "x" * 500
    told.tell(said)
    assert health.read(file) == said
    assert file.stat().st_size == 4096
    again = health.Told(file)
    assert health.read(file) == said
    again.close()
    told.close()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"time": "x"}', b"\xff", b"[" * 70_000, b'{"time": 1e999}']
)
def test_what_is_in_the_file_is_believed_in_its_form_only(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "agent.json"
    file.write_bytes(content)
    assert health.read(file) is None


def test_no_link_and_no_pipe_is_followed(tmp_path: Path) -> None:
    told = health.Told(tmp_path / "real")
    told.tell(health.Health(T))
    told.close()
    assert health.read(tmp_path / "real") is not None
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    assert health.read(tmp_path / "link") is None
    assert health.read(tmp_path / "pipe") is None
    assert health.read(tmp_path / "nothing") is None
