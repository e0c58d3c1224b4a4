"""Benchmark "workers": bulk mail from one, two and three workers on PostgreSQL, beside the one sender of SQLite.

In turn, again and again, each with the same letter to so many people, over the same number of connections in all, into
the same sink. Figures are medians of the rounds. Everything runs on this machine: what a second one would bring is not
seen here, but what sharing costs is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.postgresql_server import Server, start_postgresql

from bench import campaign, campaign_peers, campaign_sink, processes
from bench.campaign import CONNECTIONS
from bench.host import BenchFailed

WORKERS = (0, 1, 2, 3)  # none: SQLite
_TIME = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Slot:
    """`rate`: messages a second, from the first worker's begin to the last one's end; processor time in milliseconds
    for a message: of the workers, of PostgreSQL, of the sink; how many got nothing, and how many got it twice."""

    rate: float
    cpu: float
    database_cpu: float
    sink_cpu: float
    lost: int
    doubled: int


@dataclass(frozen=True, slots=True)
class Result:
    """`slots` by the number of workers."""

    count: int
    slots: dict[int, list[Slot]]

    def middle(self, workers: int, figure: str) -> float:
        return float(median(getattr(slot, figure) for slot in self.slots[workers]))

    def as_json(self) -> dict[str, Any]:
        rates = {str(workers): round(self.middle(workers, "rate"), 1) for workers in self.slots}
        return {**asdict(self), "medians": rates}


def measure(count: int, rounds: int, tell: Callable[[str], None]) -> Result:
    slots: dict[int, list[Slot]] = {}
    # With all that it does to have a commit on the disk, as SQLite here.
    with start_postgresql(Path(tempfile.mkdtemp(prefix="bench-pg-")), durable=True) as server:
        for number in range(rounds):
            for workers in WORKERS:
                slots.setdefault(workers, []).append(_slot(server, workers, count))
                rate = slots[workers][-1].rate
                tell(f"{_name(workers)}: {rate:.0f} a second (round {number + 1} of {rounds})")
    return Result(count, slots)


def _slot(server: Server, workers: int, count: int) -> Slot:
    with tempfile.TemporaryDirectory() as name, campaign.sink() as (records, port, sink):
        assert server.process is not None  # noqa: S101 - it was started
        database = server.database(f"bench_{os.urandom(6).hex()}") if workers else ""
        campaign_peers.said(
            sys.executable,
            "-m",
            "bench.campaign_todoku",
            "prepare",
            name,
            str(count),
            *filter(None, [database]),
        )
        roots = [server.process.pid]
        before = processes.cpu([sink]), processes.cpu(roots)
        seconds, used = _send(name, port, database, workers)
        sink_cpu, database_cpu = (
            (after - earlier) / count * 1000
            for after, earlier in zip((processes.cpu([sink]), processes.cpu(roots)), before, strict=True)
        )
        taken = campaign_sink.taken(records)
    return Slot(
        rate=count / seconds,
        cpu=used / count * 1000,
        database_cpu=database_cpu if workers else 0.0,
        sink_cpu=sink_cpu,
        lost=len(set(range(count)) - taken.keys()),
        doubled=sum(times - 1 for times in taken.values()),
    )


def _send(folder: str, port: int, database: str, workers: int) -> tuple[float, float]:
    """Seconds of the clock, and of the processors."""
    if not workers:
        figures = campaign_peers.todoku_sends(Path(folder), port, CONNECTIONS)
        return figures.seconds, figures.cpu
    with ExitStack() as running:
        started = []
        for number in range(workers):
            connections = (CONNECTIONS + number) // workers
            command = [sys.executable, "-m", "bench.campaign_todoku", "share", folder, str(port)]
            process = subprocess.Popen(
                [*command, str(connections), database, str(number)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            running.callback(process.kill)
            started.append(process)
        for process in started:
            if process.stdout is None or process.stdout.readline().strip() != "READY":
                raise BenchFailed("a worker did not start")
        for process in started:
            assert process.stdin is not None  # noqa: S101 - opened as a pipe above
            process.stdin.write("\n")
            process.stdin.flush()
        found = [json.loads(process.communicate(timeout=_TIME)[0]) for process in started]
    return max(each["ended"] for each in found) - min(each["begun"] for each in found), sum(
        each["cpu"] for each in found
    )


def _name(workers: int) -> str:
    return f"PostgreSQL, {workers}" if workers else "SQLite, one sender"


def table(result: Result) -> str:
    lines = [
        f"{result.count:,} recipients each, {CONNECTIONS} connections in all, no TLS, {os.cpu_count()} cores for all:",
        f"  {'workers':<20}{'msg/s':>8}{'CPU ms/msg':>12}{'PostgreSQL':>12}{'sink':>7}  lost  doubled",
    ]
    for workers, slots in result.slots.items():
        cpu, database, sink = (
            result.middle(workers, figure) for figure in ("cpu", "database_cpu", "sink_cpu")
        )
        lost, doubled = (sum(getattr(slot, what) for slot in slots) for what in ("lost", "doubled"))
        lines.append(
            f"  {_name(workers):<20}{result.middle(workers, 'rate'):>8.0f}{cpu:>12.3f}{database:>12.3f}{sink:>7.3f}"
            f"{lost:>6}{doubled:>9}"
        )
    return "\n".join(lines) + "\n"


def verdicts(result: Result) -> list[tuple[str, float, float, bool]]:
    """What was aimed at, the target, the figure, and whether it was reached."""
    wrong = sum(slot.lost + slot.doubled for slots in result.slots.values() for slot in slots)
    return [("bulk mail of several workers lost or doubled: at most", 0, wrong, wrong == 0)]
