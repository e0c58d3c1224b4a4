"""Figures for Prometheus, served over HTTP on a local address (text format 0.0.4 of its exposition formats).

A thread of its own answers, with a connection of its own, so that whoever asks keeps nobody waiting. What has to be
counted in the ledger is counted at most once in `FRESH` seconds, however often it is asked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import NamedTuple

from sqlalchemy import Engine, func, select

from todoku.delivery import stats
from todoku.delivery.health import Health
from todoku.delivery.left import DAY, MINUTE, MONTH, Left
from todoku.delivery.states import UNSETTLED, State
from todoku.settings import Settings
from todoku.store import StoreError, ledger
from todoku.store import ledger_schema as schema

log = logging.getLogger("todoku.agent")

FRESH = 15.0  # seconds
_SECONDS = 5.0  # that a client gets


class Figure(NamedTuple):
    """One sample. `kind`: "gauge" or "counter"."""

    name: str
    kind: str
    help: str
    value: float
    labels: Mapping[str, str] = {}


def text(figures: Iterable[Figure]) -> str:
    """As Prometheus reads them: those of one name together."""
    lines: list[str] = []
    for figure in sorted(figures, key=lambda each: each.name):
        head = f"# TYPE {figure.name} {figure.kind}"
        if head not in lines:
            lines += [f"# HELP {figure.name} {_escaped(figure.help)}", head]
        labels = ",".join(f'{name}="{_escaped(value, quoted=True)}"' for name, value in figure.labels.items())
        lines.append(f"{figure.name}{f'{{{labels}}}' if labels else ''} {figure.value:.15g}")
    return "\n".join(lines) + "\n"


def _escaped(value: str, *, quoted: bool = False) -> str:
    value = value.replace("\\", "\\\\").replace("\n", "\\n")
    return value.replace('"', '\\"') if quoted else value


@dataclass(slots=True)
class Figures:
    """All figures, when asked. `replies` counts the relay's by code; `alarms` are the names of those there are; `left`
    is what of the plan is used (`WayOut.in_all`)."""

    engine: Engine
    settings: Settings
    health: Callable[[], Health]
    replies: Callable[[], Mapping[str, int]]
    alarms: Callable[[], Sequence[str]]
    left: Callable[[], Left]
    clock: Callable[[], float] = time.time
    _known: list[Figure] = field(default_factory=list)
    _when: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> str:
        with self._lock:
            now = self.clock()
            if not 0 <= now - self._when < FRESH:
                try:
                    self._known, readable = list(self._of_the_ledger(now)), 1.0
                except StoreError as error:
                    log.warning("the ledger cannot be read for figures: %s", error)
                    self._known, readable = [], 0.0
                self._known.append(Figure("todoku_ledger_readable", "gauge", "1: it can be read", readable))
                self._when = now
            return text([*self._known, *self._of_the_agent()])

    def _of_the_agent(self) -> Iterator[Figure]:
        health = self.health()
        writable = 0.0 if health.error else 1.0
        yield Figure("todoku_ledger_writable", "gauge", "1: what was read could be written", writable)
        said = "Seconds between a line in the log and its being in the ledger"
        yield Figure("todoku_agent_lag_seconds", "gauge", said, health.lag)
        yield Figure("todoku_agent_pending_entries", "gauge", "Read, and not written yet", health.pending)
        said = "Entries that the ledger did not take, since the agent began"
        yield Figure("todoku_agent_passed_over_total", "counter", said, health.passed_over)
        for code, number in sorted(self.replies().items()):
            said = "What the relay said to a recipient, since the agent began"
            yield Figure("todoku_relay_replies_total", "counter", said, number, {"code": code})
        found = list(self.alarms())
        yield Figure("todoku_alarms", "gauge", "How many alarms there are", len(found))
        for name in found:
            yield Figure("todoku_alarm", "gauge", "1: there is this alarm", 1, {"name": name})

    def _of_the_ledger(self, now: float) -> Iterator[Figure]:
        counted = dict.fromkeys(State, 0)
        for count in stats.count(self.engine, "day", now - stats.DAY):
            for state, number in count.states.items():
                counted[state] += number
        for state, number in counted.items():
            said = "Recipients of the messages of the last 24 hours, by what became of them"
            yield Figure("todoku_recipients", "gauge", said, number, {"state": state})
        message, recipient = schema.message, schema.recipient
        joined = select(func.count(message.c.id.distinct()), func.min(message.c.arrived)).join(
            recipient, recipient.c.message == message.c.id
        )
        waiting = joined.where(recipient.c.state.in_(UNSETTLED), message.c.removed.is_(None))
        with ledger.read(self.engine) as connection:
            length, oldest = connection.execute(waiting).one()
        left = self.left()
        yield Figure("todoku_queue_messages", "gauge", "Messages in the queue", length)
        age = max(0.0, now - oldest) if oldest is not None else 0.0
        yield Figure("todoku_queue_oldest_seconds", "gauge", "How long the oldest of them has waited", age)
        plan = self.settings.relay.plan
        for window, seconds, limit in (
            ("minute", MINUTE, plan.per_minute),
            ("day", DAY, plan.per_day),
            ("month", MONTH, plan.per_month),
        ):
            labels, emails = {"window": window}, left.used(seconds, now)
            yield Figure("todoku_plan_used_emails", "gauge", "Emails that the relay took", emails, labels)
            yield Figure(
                "todoku_plan_limit_emails", "gauge", "Emails that the relay's plan has", limit, labels
            )


class Server:
    """Answers from the moment it is made, until `close`. Raises OSError when the address cannot be had."""

    def __init__(self, address: str, port: int, figures: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _SECONDS
            server_version, sys_version = "todoku", ""

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                octets = figures().encode("utf-8", "replace")
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(octets)))
                self.end_headers()
                self.wfile.write(octets)

            def log_message(self, *_arguments: object) -> None:
                """Nothing: whoever asks does so every few seconds."""

        class Http(ThreadingHTTPServer):
            address_family = AF_INET6 if ":" in address else ThreadingHTTPServer.address_family
            daemon_threads = True

            def handle_error(self, *_arguments: object) -> None:
                log.info("somebody who asked for figures went away")

        self._server = Http((address, port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True, name="metrics").start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
