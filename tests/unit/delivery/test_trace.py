# "Where is my mail?" has an answer: by an address, a Message-ID or a queue ID. How fast that is among a
# million recipients: tests/world/test_ledger_million.py.

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from todoku.delivery import queue, stats
from todoku.delivery.entries import Active, Attempt, Decided, Handed, Named, Noticed, Removed
from todoku.delivery.record import Recorder
from todoku.delivery.states import State
from todoku.delivery.trace import trace

T = 1_795_507_939.0


def fill(engine: Engine) -> None:
    Recorder(engine).record(
        [
            Decided(T, "4aaaaaaaaaaaa", "passed", "", "", "alice@hoge.example", "192.168.77.2", "alice@hoge.example",
                    ("info@hoge.example", "x@mailbox.example"), "<m1@hoge.example>", 900, None),
            Handed(T, "4aaaaaaaaaaaa", "submission/smtpd", "pc[192.168.77.2]", "alice@hoge.example"),
            Named(T, "4aaaaaaaaaaaa", "<m1@hoge.example>"),
            Active(T, "4aaaaaaaaaaaa", "alice@hoge.example", 1000, 2),
            Attempt(T + 1, "4aaaaaaaaaaaa", "smtp", "x@mailbox.example", "", "relay[192.0.2.20]:587", "4.3.0",
                    "deferred", "455 Maximum messages sent per minute reached : limit is 10)"),
            Attempt(T + 1, "4aaaaaaaaaaaa", "lmtp", "bob@hoge.example", "info@hoge.example", "dovecot", "2.0.0", "sent",
                    "250 Saved)"),
            Attempt(T + 61, "4aaaaaaaaaaaa", "smtp", "x@mailbox.example", "", "relay[192.0.2.20]:587", "5.7.1",
                    "bounced", "554 5.7.1 Suppression for user ocid1 to x@mailbox.example)"),
            Noticed(T + 61, "4aaaaaaaaaaaa", "sender non-delivery notification", "4bbbbbbbbbbbb"),
            Named(T + 61, "4bbbbbbbbbbbb", "<n1@hoge.example>"),
            Attempt(T + 62, "4bbbbbbbbbbbb", "lmtp", "alice@hoge.example", "", "dovecot", "2.0.0", "sent",
                    "250 Saved)"),
            Removed(T + 61, "4aaaaaaaaaaaa"),
            Removed(T + 62, "4bbbbbbbbbbbb"),
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "queue_ids"),
    [
        ("4aaaaaaaaaaaa", ["4bbbbbbbbbbbb", "4aaaaaaaaaaaa"]),  # with the notice about it
        ("<m1@hoge.example>", ["4aaaaaaaaaaaa"]),
        ("m1@hoge.example", ["4aaaaaaaaaaaa"]),
        ("X@Mailbox.example", ["4aaaaaaaaaaaa"]),
        ("info@hoge.example", ["4aaaaaaaaaaaa"]),  # an alias
        ("alice@hoge.example", ["4bbbbbbbbbbbb", "4aaaaaaaaaaaa"]),  # wrote one, got the other
        ("nobody@mailbox.example", []),
        ("4zzzzzzzzzzzz", []),
        ("' OR 1=1 --", []),
        ("", []),
    ],
)
def test_a_message_is_found_by_what_people_have(engine: Engine, what: str, queue_ids: list[str]) -> None:
    fill(engine)
    assert [journey.queue_id for journey in trace(engine, what)] == queue_ids


def test_the_journey_has_every_station_and_the_relays_words(engine: Engine) -> None:
    fill(engine)
    (journey,) = trace(engine, "<m1@hoge.example>")
    assert (journey.login, journey.gate, journey.removed) == ("alice@hoge.example", "passed", T + 61)
    outside, inside = journey.recipients
    assert (outside.state, outside.since) == (State.SUPPRESSED, T + 61)
    assert [(tried.state, tried.time) for tried in outside.attempts] == [
        ("deferred", T + 1),
        ("suppressed", T + 61),
    ]
    assert "limit is 10" in outside.attempts[0].words
    assert (inside.address, inside.original, inside.state) == (
        "bob@hoge.example",
        "info@hoge.example",
        "delivered",
    )


def test_only_the_latest_are_shown(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record([Attempt(T + n, f"4aaaaaaaaa{n:03}", "smtp", "x@y.example", "", "r", "2.0.0", "sent", "250)")
                     for n in range(50)])  # fmt: skip
    found = trace(engine, "x@y.example", 3)
    assert [journey.queue_id for journey in found] == ["4aaaaaaaaa049", "4aaaaaaaaa048", "4aaaaaaaaa047"]


def test_what_there_was_is_counted_by_day_account_and_domain(engine: Engine) -> None:
    fill(engine)
    (day,) = stats.count(engine, "day", T - 1)
    assert day.of == "2026-11-24"
    assert day.states == {State.SUPPRESSED: 1, State.DELIVERED: 2}
    assert {each.of: each.total for each in stats.count(engine, "account", T - 1)} == {
        "alice@hoge.example": 2,
        "(not logged in)": 1,
    }
    assert {each.of: each.total for each in stats.count(engine, "domain", T - 1)} == {
        "hoge.example": 2,
        "mailbox.example": 1,
    }
    assert stats.count(engine, "day", T + 100) == []


def test_the_queue_says_why_and_when_next(tmp_path: Path) -> None:
    lines = [
        '{"queue_name": "deferred", "queue_id": "4jYbBq1gR6z5F", "arrival_time": 1795507939, "message_size": 303, '
        '"forced_expire": false, "sender": "bob@hoge.example", "recipients": [{"address": "c@mailbox.example", '
        '"delay_reason": "host smtp.email[192.0.2.20] said: 455 Maximum messages sent per day reached : limit is 200 '
        '(in reply to RCPT TO command)"}]}',
        '{"queue_name": "active", "queue_id": "4jYbBq1gR6z5G", "arrival_time": 1795507930, "message_size": 3, '
        '"sender": "", "recipients": [{"address": "d@mailbox.example"}]}',
        "not json", "{}", "[]",
    ]  # fmt: skip
    active, deferred = queue.parse(lines, lambda _queue_id: T + 300)
    assert (active.queue_id, active.next) == ("4jYbBq1gR6z5G", None)
    assert deferred.next == T + 300
    assert "plan is used up" in queue.meaning(deferred.recipients[0][1])
    (tmp_path / "deferred" / "4").mkdir(parents=True)
    (tmp_path / "deferred" / "4" / "4jYbBq1gR6z5F").touch()
    assert queue._next(tmp_path, "4jYbBq1gR6z5F") is not None
    assert queue._next(tmp_path, "../../etc/passwd") is None


def test_who_waits_for_the_pace_alone_knows_its_turn() -> None:
    def waits(name: str, where: str, *recipients: str) -> queue.Waiting:
        return queue.Waiting(
            name, where, T, 1, "a@hoge.example", tuple((each, "") for each in recipients), None
        )

    found = [
        waits("first", "active", "c@d.example", "local@hoge.example"),
        waits("here", "active", "local@hoge.example"),
        waits("three", "active", "c@d.example", "e@d.example", "f@d.example"),
        waits("tried", "deferred", "c@d.example"),
        waits("last", "incoming", "c@d.example"),
    ]

    def leaves(address: str) -> bool:
        return not address.endswith("@hoge.example")

    turns = {each.queue_id: (each.turn, each.next) for each in queue.in_turn(found, 7, 1, leaves, T)}
    assert turns == {
        "first": (0, None),
        "here": (0, None),
        "three": (1, T + 7),
        "tried": (0, None),
        "last": (4, T + 28),
    }
    assert queue.in_turn(found, 7, 2, leaves, T)[-1].turn == 3
    assert queue.in_turn(found, 0, 50, leaves, T) == found  # as fast as it goes


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("host r said: 455 Maximum messages sent per minute reached : limit is 10 (in reply)", "this minute"),
        ("host r said: 450 535 Authorization failed: address a@b not authorized", "this sender"),
        ("SASL authentication failed; server r said: 535 Authentication credentials invalid", "our password"),
        ("host r said: 421 Too many auth failures, try again later", "turns us away"),
        ("connect to r[192.0.2.20]:587: Connection refused", "cannot be reached"),
        ("Server certificate not trusted", "prove its name"),
        (
            "SASL authentication failed; server r said: 421 Too many auth failures, try again later",
            "turns us away",
        ),
        ("host r said: 450 4.7.0 Authentication required (in reply to MAIL)", "our password"),
        ("host r said: 452 System storage error (in reply to end of DATA)", "trouble of its own"),
        ("host mx.hoge.example[private/dovecot-lmtp] said: 452 4.2.2 quota", "mailbox server"),
        (
            "delivery temporarily suspended: connect to r[192.0.2.20]:587: Connection refused",
            "cannot be reached",
        ),
        ("something new", ""),
    ],
)
def test_each_reason_has_a_meaning(reason: str, meaning: str) -> None:
    assert meaning in queue.meaning(reason)
    assert bool(queue.meaning(reason)) is bool(meaning)
