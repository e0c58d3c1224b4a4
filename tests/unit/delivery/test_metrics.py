# A monitoring system asks every few seconds: it gets figures in the form that it reads, fast, and nobody waits for it.

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from todoku.delivery.entries import Active, Attempt, Entry, Removed
from todoku.delivery.health import Health
from todoku.delivery.left import Left
from todoku.delivery.metrics import FRESH, Figure, Figures, Server, text
from todoku.delivery.record import Recorder
from todoku.settings import SettingsError, parse

TEXT = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "postmaster@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
# Prometheus' exposition formats, text-based format 0.0.4.
_HELP = re.compile(r"# HELP [a-zA-Z_:][a-zA-Z0-9_:]* [^\n]*")
_TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (gauge|counter)")
_SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\S+)'
)


def read(page: str) -> dict[str, float]:
    """The samples; fails the test where the form is not that of the format."""
    assert page.endswith("\n")
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in page[:-1].split("\n"):
        if _HELP.fullmatch(line):
            continue
        if kind := _TYPE.fullmatch(line):
            assert kind[1] not in kinds, "the samples of a name belong together"
            kinds[kind[1]] = kind[2]
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample, line
        assert list(kinds)[-1] == sample[1]
        key = sample[1] + (sample[2] or "")
        assert key not in found
        found[key] = float(sample[3])
    return found


def figures(engine: Engine, recorder: Recorder, **more: Any) -> Figures:
    alarms = more.pop("alarms", [])
    health = more.pop("health", Health(time.time(), lag=0.5))
    return Figures(
        engine,
        parse(TEXT, "todoku.toml"),
        lambda: health,
        lambda: dict(recorder.replies),
        lambda: alarms,
        more.pop("left", recorder.left),
        **more,
    )


def attempt(now: float, queue_id: str, status: str, words: str) -> Attempt:
    return Attempt(now, queue_id, "smtp", f"{queue_id}@mailbox.example", "", "relay", "", status, words)


def test_what_there_is_is_counted(engine: Engine) -> None:
    recorder, now = Recorder(engine), time.time()
    entries: list[Entry] = []
    for number in range(3):
        queue_id = f"4a{number}"
        entries += [
            Active(now, queue_id, "a@hoge.example", 4_500_000 if number == 0 else 900, 1),
            attempt(now, queue_id, "sent", "250 Ok)"),
            Removed(now, queue_id),
        ]
    waits = (
        "host smtp.email said: 455 Maximum messages sent per minute reached (in reply to RCPT TO command))"
    )
    entries += [Active(now - 60, "4w", "a@hoge.example", 900, 1), attempt(now, "4w", "deferred", waits)]
    recorder.record(entries)
    bulk = Left().with_more([(now, 10), (now - 3600, 20)])
    found = read(
        figures(engine, recorder, alarms=['queue:"old"\\'], left=lambda: recorder.left().plus(bulk))()
    )
    assert found['todoku_recipients{state="accepted"}'] == 3
    assert found['todoku_recipients{state="deferred"}'] == 1
    assert found['todoku_recipients{state="bounced"}'] == 0
    assert found["todoku_queue_messages"] == 1
    assert 59 <= found["todoku_queue_oldest_seconds"] <= 120
    assert found['todoku_relay_replies_total{code="250"}'] == 3
    assert found['todoku_relay_replies_total{code="455"}'] == 1
    # An email of the plan is one recipient times each started 2 MB.
    assert found['todoku_plan_used_emails{window="day"}'] == 5 + 30
    assert found['todoku_plan_used_emails{window="minute"}'] == 5 + 10
    assert found['todoku_plan_limit_emails{window="minute"}'] == 10
    assert (found["todoku_ledger_readable"], found["todoku_ledger_writable"]) == (1, 1)
    assert found["todoku_agent_lag_seconds"] == 0.5
    assert found['todoku_alarm{name="queue:\\"old\\"\\\\"}'] == found["todoku_alarms"] == 1


def test_an_empty_ledger_has_figures_too(engine: Engine) -> None:
    found = read(figures(engine, Recorder(engine))())
    assert found["todoku_queue_messages"] == found["todoku_queue_oldest_seconds"] == 0


def test_however_often_it_is_asked_the_ledger_is_not(engine: Engine) -> None:
    recorder, now = Recorder(engine), [1000.0]
    asked = figures(engine, recorder, clock=lambda: now[0])
    before = asked()
    recorder.record([attempt(time.time(), "4w", "deferred", "x)")])
    assert "todoku_queue_messages 0" in before
    assert "todoku_queue_messages 0" in asked()
    now[0] += FRESH
    assert "todoku_queue_messages 1" in asked()


def test_a_ledger_that_is_away_is_a_figure_itself(engine: Engine) -> None:
    from todoku.store import ledger

    gone = ledger.Place("/nonexistent/ledger.sqlite3")
    away = ledger._engine(gone)
    found = read(figures(away, Recorder(engine), health=Health(1.0, "the disk is full", 1.0, 7.0, 3))())
    assert (found["todoku_ledger_readable"], found["todoku_ledger_writable"]) == (0, 0)
    assert (found["todoku_agent_lag_seconds"], found["todoku_agent_pending_entries"]) == (7, 3)


@given(st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False), max_size=5))
def test_whatever_a_label_holds_the_form_is_kept(values: dict[str, float]) -> None:
    page = text(
        Figure("todoku_alarm", "gauge", "h\n", value, {"name": name}) for name, value in values.items()
    )
    assert not values or len(read(page)) == len(values)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server("127.0.0.1", 0, lambda: "todoku_x 1\n")
    yield made
    made.close()


def test_it_is_served_on_that_address_and_nothing_else_is(server: Server) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.read() == b"todoku_x 1\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=60)
    with pytest.raises(OSError, match="in use"):
        Server("127.0.0.1", server.port, str)


def test_one_who_says_nothing_keeps_nobody_waiting(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.sendall(b"GET /met")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
            assert answer.status == 200


def test_off_unless_there_is_the_table_and_then_on_this_machine_only() -> None:
    assert parse(TEXT, "todoku.toml").metrics is None
    metrics = parse(TEXT + "[metrics]\n", "todoku.toml").metrics
    assert metrics is not None
    assert (str(metrics.address), metrics.port) == ("127.0.0.1", 9587)
    with pytest.raises(SettingsError, match="port"):
        parse(TEXT + "[metrics]\nport = 80\n", "todoku.toml")
