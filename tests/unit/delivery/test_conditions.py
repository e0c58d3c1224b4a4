# A wrong password at the relay looks like a quiet queue. What somebody has to do something about is said, and no more.

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from todoku.delivery.conditions import DAY, HOUR, Seen, Usage, alarms
from todoku.delivery.queue import Waiting
from todoku.gate import spent

NOW = 1_795_507_939.0
FINE = Seen(
    now=NOW,
    queue=(),
    services={"postfix": True, "todoku-gate": True},
    usage=(Usage("in 24 hours", 10, 200),),
    disks={"/": 0.5},
    certificate_ends=NOW + 90 * DAY,
    last_read=NOW,
)


def waits(reason: str, since: float = 60.0, queue: str = "deferred") -> Waiting:
    return Waiting(
        "4jYbBq1gR6z5F", queue, NOW - since, 100, "a@hoge.example", (("c@d.example", reason),), NOW + 60
    )


def names(**changes: object) -> list[str]:
    return [alarm.name for alarm in alarms(replace(FINE, **changes))]  # type: ignore[arg-type]


def test_where_all_is_well_there_is_no_alarm() -> None:
    assert names() == []
    assert names(queue=(waits("455 Maximum messages sent per minute reached"),)) == []
    assert names(queue=(waits("", 5 * HOUR, "hold"),)) == []  # somebody put it there
    assert names(certificate_ends=None, last_read=None) == []


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"services": {"todoku-gate": False}}, "service:todoku-gate", "does not run"),
        (
            {
                "queue": (
                    waits(
                        "SASL authentication failed; server r said: 535 Authentication credentials invalid"
                    ),
                )
            },
            "relay:password",
            "credential rotate",
        ),
        (
            {"queue": (waits("host r said: 450 4.7.1 Authorization failed: address a@b not authorized"),)},
            "relay:sender",
            "does not accept a sender",
        ),
        ({"queue": (waits("Connection refused", 2 * HOUR),)}, "queue:old", "2.0 hours"),
        ({"usage": (Usage("in 24 hours", 160, 200),)}, "plan:in 24 hours:80", "160 of the 200"),
        ({"usage": (Usage("in 24 hours", 200, 200),)}, "plan:in 24 hours:100", "held back"),
        ({"disks": {"/var": 0.09}}, "disk:/var", "9% free"),
        ({"certificate_ends": NOW + 13 * DAY}, "certificate", "13 days"),
        ({"certificate_ends": NOW - DAY}, "certificate", "has ended"),
        ({"complained": 1}, "complaints", "unwanted"),
    ],
)
def test_each_thing_to_do_is_an_alarm_with_advice(changes: dict[str, object], name: str, words: str) -> None:
    (alarm,) = alarms(replace(FINE, **changes))  # type: ignore[arg-type]
    assert alarm.name == name
    assert words in f"{alarm.found} {alarm.advice}"
    assert alarm.advice


def test_what_is_used_of_the_plan_is_what_the_gate_counts() -> None:
    with sqlite3.connect(":memory:") as counted:
        counted.executescript(spent.SCHEMA)
        rows = [("", "emails", 1, 1000, 3), ("", "emails", 600, 600, 40), ("", "emails", 7200, 0, 41),
                ("alice", "recipients", 1, 1000, 9)]  # fmt: skip
        counted.executemany("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", rows)
        assert spent.used(counted, 1010) == {"a minute": 3, "in 24 hours": 40, "in 31 days": 41}
        assert spent.used(counted, 1100)["a minute"] == 0
