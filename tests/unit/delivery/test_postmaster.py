# The postmaster hears of what is wrong once when it begins and once when it is over: not every five seconds, and not
# twice because somebody was killed.

from __future__ import annotations

import email
import email.policy
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from test_notices import SETTINGS, T, sent

from todoku.delivery import alarms, machine, notices, watch
from todoku.delivery.alarms import Alarm
from todoku.delivery.entries import Attempt, Removed, Told
from todoku.delivery.postmaster import Postmaster
from todoku.delivery.queue import Waiting
from todoku.delivery.record import Recorder
from todoku.delivery.watch import waiting
from todoku.host.certificates.certificate import inspect, self_signed
from todoku.store import StoreError, ledger
from todoku.store import ledger_schema as schema

PASSWORD = Alarm("relay:password", "the relay refuses the password", "rotate it", calm=20)
GATE = Alarm("service:todoku-gate", "todoku-gate does not run", "run `todoku apply`", calm=20, settle=20)
DISK = Alarm("disk:/", "/ has 4% free", "make room", calm=3600)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def postmaster(engine: Engine, clock: Callable[[], float]) -> Postmaster:
    return Postmaster(engine, SETTINGS, lambda: T + clock(), clock)


def letters(engine: Engine) -> list[Any]:
    with ledger.read(engine) as connection:
        rows = connection.execute(select(schema.notice).order_by(schema.notice.c.id)).all()
    return [email.message_from_string(row.content, policy=email.policy.default) for row in rows]


def subjects(engine: Engine) -> list[str]:
    return [letter["Subject"] for letter in letters(engine)]


def test_it_is_told_once_when_it_begins_and_once_when_it_is_over(engine: Engine) -> None:
    clock = Clock()
    told = postmaster(engine, clock)
    for _ in range(10):
        told.tell([PASSWORD])
        clock.now += 5
    assert subjects(engine) == ["ALARM: the relay refuses the password"]
    for _ in range(10):
        told.tell([])
        clock.now += 5
    assert subjects(engine) == [
        "ALARM: the relay refuses the password",
        "OVER: the relay refuses the password",
    ]
    began, over = letters(engine)
    assert began["To"] == SETTINGS.postmaster
    assert began["Auto-Submitted"] == "auto-generated"
    assert "What to do: rotate it." in began.get_content()
    assert "It is over" in over.get_content()
    assert began["Message-ID"] != over["Message-ID"]


def test_who_starts_anew_knows_what_was_told(engine: Engine) -> None:
    clock = Clock()
    postmaster(engine, clock).tell([PASSWORD])
    for _ in range(3):
        postmaster(engine, clock).tell([PASSWORD])
    again = postmaster(engine, clock)
    again.tell([])
    clock.now += 21
    again.tell([])
    postmaster(engine, clock).tell([])
    assert [subject.partition(":")[0] for subject in subjects(engine)] == ["ALARM", "OVER"]
    postmaster(engine, clock).tell([PASSWORD])  # a second time, which is news
    assert len(subjects(engine)) == 3


def test_a_restart_is_no_alarm_and_what_comes_and_goes_is_one(engine: Engine) -> None:
    clock = Clock()
    told = postmaster(engine, clock)
    for present in ([GATE], [GATE], [], [GATE], [GATE]):  # away for some seconds, twice
        told.tell(present)
        clock.now += 8
    assert subjects(engine) == []
    for number in range(40):
        told.tell([DISK] if number % 3 else [])
        clock.now += 60
    assert subjects(engine) == ["ALARM: / has 4% free"]


def test_what_changes_together_is_one_mail(engine: Engine) -> None:
    clock = Clock()
    told = postmaster(engine, clock)
    told.tell([PASSWORD, DISK])
    clock.now += 30
    told.tell([Alarm("check:spf", "no SPF\r\nBcc: x@y.example", "publish é"), DISK])
    assert subjects(engine) == [
        "ALARM: the relay refuses the password (and 1 more)",
        "ALARM: no SPF Bcc: x@y.example",
    ]
    assert letters(engine)[1]["Bcc"] is None
    clock.now += 30
    told.tell([DISK])
    assert subjects(engine)[2] == "OVER: the relay refuses the password"


def test_what_could_not_be_written_is_told_as_soon_as_it_can_be(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    told = postmaster(engine, clock)
    told.tell([])

    @contextmanager
    def full(_: Engine) -> Iterator[Any]:
        raise StoreError("the disk is full")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "write", full)
        with pytest.raises(StoreError):
            told.tell([PASSWORD])
    assert subjects(engine) == []
    told.tell([PASSWORD])
    assert subjects(engine) == ["ALARM: the relay refuses the password"]


def test_it_goes_the_way_that_does_not_pass_the_gate_and_notices_to_senders_do(engine: Engine) -> None:
    ways: list[tuple[str, str]] = []
    recorder = Recorder(engine, notices.Writer(SETTINGS))
    recorder.record(sent())
    gone = Told(
        T + 60, "", "gone@mailbox.example", "HARDBOUNCE", "m1@hoge.example", "550 no", "mx", "2026-11-24"
    )
    recorder.record([gone])
    postmaster(engine, Clock()).tell([PASSWORD])
    notices.Sender(
        engine,
        lambda to, _: ways.append(("through the gate", to)),
        hand_over_alarm=lambda to, _: ways.append(("past it", to)),
    ).send()
    assert ways == [("through the gate", "alice@hoge.example"), ("past it", SETTINGS.postmaster)]


def test_complaints_are_told_once_a_day_for_each_sender(engine: Engine) -> None:
    recorder = Recorder(engine, notices.Writer(SETTINGS))
    for number, sender in enumerate(("news@hoge.example", "news@hoge.example", "alice@hoge.example")):
        recorder.record(sent(sender, f"4aaaaaaaaaaa{number}"))
        said = Told(T + 60, "", "gone@mailbox.example", "COMPLAINT", "", "", "", "2026-11-24")
        for _ in range(2):  # the list is read again and again
            recorder.record([said])
    assert subjects(engine) == [
        "Complaint about mail of news@hoge.example",
        "Complaint about mail of alice@hoge.example",
    ]
    assert "gone@mailbox.example reported" in letters(engine)[0].get_content()


def looking(engine: Engine, tmp_path: Path, **more: Any) -> watch.Watch:
    return watch.Watch(engine, SETTINGS, postmaster(engine, Clock()), tmp_path, tmp_path / "proc", **more)


def test_the_agent_sees_what_waits_in_the_ledger_and_what_others_report(
    engine: Engine, tmp_path: Path
) -> None:
    now = time.time()
    refused = "SASL authentication failed; server r said: 535 Authentication credentials invalid)"
    deferred = Attempt(now, "4aaaaaaaaaaaa", "smtp", "c@d.example", "", "r", "4.0.0", "deferred", refused)
    recorder = Recorder(engine)
    recorder.record([deferred])
    alarms.report("check", [DISK], tmp_path)
    for process, name in (("1", "master"), ("2", "dovecot"), ("3", "todoku-gate"), ("x", "")):
        (tmp_path / "proc" / process).mkdir(parents=True)
        (tmp_path / "proc" / process / "stat").write_text(f"{process} ({name}) S 1 1")
    listed = waiting(engine, now)
    real: list[Waiting | OSError] = [OSError("postqueue -j: the mail system is down")]

    def queue() -> list[Waiting]:
        for each in real:
            if isinstance(each, OSError):
                raise each
        return [each for each in real if isinstance(each, Waiting)]

    look = looking(engine, tmp_path, certificate_ends=lambda: now + 100 * 86_400, queue=queue)
    look()
    (letter,) = letters(engine)
    assert letter["Subject"].startswith("ALARM: the relay refuses the password, and a recipient waits: SASL")
    assert "(and 1 more)" in letter["Subject"]
    real[:] = listed
    assert look.look().queue == listed
    real.clear()
    look._believed = 0.0
    assert look.look().queue == []  # somebody deleted it, which is not in the log
    real[:] = [OSError("is not asked")]
    recorder.record([Removed(now, "4aaaaaaaaaaaa")])
    assert look.look().queue == []
    (tmp_path / "proc" / "3" / "stat").write_text("3 (todoku-gate) Z 1 1")  # dead, and not yet buried
    assert look.look().services == {"postfix": True, "dovecot": True, "todoku-gate": False}


def test_a_queue_that_takes_long_to_list_is_listed_seldom(engine: Engine, tmp_path: Path) -> None:
    now, clock, asked = time.time(), Clock(), []
    deferred = Attempt(now, "4aaaaaaaaaaaa", "smtp", "c@d.example", "", "r", "4.0.0", "deferred", "later)")
    Recorder(engine).record([deferred])
    (tmp_path / "proc").mkdir()

    def queue() -> list[Waiting]:
        asked.append(clock.now)
        clock.now += 2  # fifty thousand messages
        return waiting(engine, now)

    look = looking(engine, tmp_path, certificate_ends=lambda: None, queue=queue, elapsed=clock)
    for _ in range(26):
        assert len(look.look().queue) == 1
        clock.now += 5
    assert len(asked) == 3


def test_disks_are_looked_at_once_each() -> None:
    found = machine.disks(["/", "/", "/nowhere", "/etc"])
    assert "/" in found
    assert len(found) <= 2
    assert all(0 <= free <= 1 for free in found.values())


@contextmanager
def serving(certificate: Path) -> Iterator[tuple[str, int]]:
    """A server that shows it to one client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        with context.wrap_socket(client, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()
    thread.join(10)
    listener.close()


def test_the_certificate_is_the_one_that_is_shown(engine: Engine, tmp_path: Path) -> None:
    chain, key = self_signed("mx.hoge.example", datetime.now(UTC))
    (tmp_path / "both.pem").write_bytes(key + chain)
    with serving(tmp_path / "both.pem") as server:
        shown = machine.certificate_ends(server)
        assert shown is not None
        assert shown - time.time() == pytest.approx(inspect(chain, key).left.total_seconds(), abs=60)
    assert machine.certificate_ends(server) is None  # nobody listens any more
    answers: list[float | None] = [None, 5.0, None]
    clock = Clock()
    look = looking(engine, tmp_path, certificate_ends=lambda: answers.pop(0), elapsed=clock)
    found = []
    for _ in range(4):
        found.append(look._certificate())
        clock.now += 61
    assert found == [None, 5.0, 5.0, 5.0]  # asked again after a minute, then after an hour
    assert answers == [None]
