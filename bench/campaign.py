"""Benchmark "campaign": bulk mail, rendered, sent and recorded, beside other queues; all of them into the same sink.

In turn, again and again: Todoku, django-post_office, nodemailer's pool, Haraka and Postfix, each with the same letter
to so many people, over as many connections. The figures are medians of the rounds.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import campaign_peers, campaign_sink, host, processes
from bench.campaign_peers import Figures, Peer
from bench.host import BenchFailed

CONNECTIONS = 20
_PORT = 10725
TARGET_RATE, TARGET_RATIO = 3000, 2.0
TARGET_CREATED, TARGET_FLAT = 30.0, 1.25  # seconds for a million; memory of the many by that of 10,000
FEW = 10_000


@dataclass(frozen=True, slots=True)
class Slot:
    """`rate`: messages a second; CPU in milliseconds for a message: of the queue, of what feeds it, of the sink; bytes
    of memory at most; how many recipients got nothing, and how many got it twice."""

    rate: float
    cpu: float
    feed_cpu: float
    sink_cpu: float
    memory: int
    lost: int
    doubled: int


@dataclass(frozen=True, slots=True)
class Result:
    """`slots` by name; `missing`: why a peer is not among them. `many`: Todoku alone, with so many recipients."""

    count: int
    records: dict[str, str]
    slots: dict[str, list[Slot]]
    missing: dict[str, str]
    few_memory: int
    many: int
    many_rate: float
    many_memory: int
    many_created: float

    def middle(self, name: str, figure: str) -> float:
        return float(median(getattr(slot, figure) for slot in self.slots[name]))

    @property
    def ratio(self) -> float:
        """Todoku by the fastest of the others that keep what became of each recipient."""
        others = [
            self.middle(name, "rate")
            for name in self.slots
            if name != "Todoku" and self.records[name] != "no"
        ]
        return self.middle("Todoku", "rate") / max(others) if others else 0.0

    def as_json(self) -> dict[str, Any]:
        figures = {
            name: {figure: round(self.middle(name, figure), 4) for figure in Slot.__slots__}
            for name in self.slots
        }
        return {**asdict(self), "medians": figures, "ratio": round(self.ratio, 3)}


def measure(packages: Path, count: int, rounds: int, many: int, tell: Callable[[str], None]) -> Result:
    """`count`: recipients in each slot. `many`: of Todoku's large campaign."""
    peers, missing = campaign_peers.all_of_them(packages, CONNECTIONS)
    slots: dict[str, list[Slot]] = {}
    for number in range(rounds):
        for peer in peers:
            slots.setdefault(peer.name, []).append(_slot(peer, count))
            tell(f"{peer.name}: {slots[peer.name][-1].rate:.0f} a second (round {number + 1} of {rounds})")
    few, _ = _todoku(FEW)
    large, created = _todoku(many)
    return Result(
        count=count,
        records={peer.name: peer.records for peer in peers},
        slots=slots,
        missing=missing,
        few_memory=few.memory,
        many=many,
        many_rate=many / large.seconds,
        many_memory=large.memory,
        many_created=created,
    )


def _slot(peer: Peer, count: int) -> Slot:
    with tempfile.TemporaryDirectory() as name, sink() as (records, port, process):
        before = processes.cpu([process])
        figures = peer.run(Path(name), count, port, records)
        used = processes.cpu([process]) - before
        taken = campaign_sink.taken(records)
    expected = set(range(count))
    return Slot(
        rate=count / figures.seconds,
        cpu=figures.cpu / count * 1000,
        feed_cpu=figures.feed_cpu / count * 1000,
        sink_cpu=used / count * 1000,
        memory=figures.memory,
        lost=len(expected - taken.keys()),
        doubled=sum(times - 1 for times in taken.values()),
    )


def _todoku(count: int) -> tuple[Figures, float]:
    """Figures of a campaign to so many, and seconds for creating it."""
    with tempfile.TemporaryDirectory() as name, sink() as (_, port, _process):
        folder = Path(name)
        created = campaign_peers.said(
            sys.executable, "-m", "bench.campaign_todoku", "prepare", name, str(count)
        )
        figures = campaign_peers.todoku_sends(folder, port, CONNECTIONS)
        if figures.recorded != count:
            raise BenchFailed(f"{figures.recorded} of {count} recipients are recorded as sent")
        return figures, created["created"]


@contextmanager
def sink() -> Iterator[tuple[Path, int, int]]:
    """The folder with its records, its port, its process."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "bench.campaign_sink", name, str(_PORT)]
        with host.started(command, ready="READY") as process:
            yield Path(name), _PORT, process.pid


def table(result: Result) -> str:
    lines = [
        f"{result.count:,} recipients each, {CONNECTIONS} connections, no TLS, {os.cpu_count()} cores:",
        f"  {'':<20}{'msg/s':>8}{'CPU ms/msg':>12}{'feed':>7}{'sink':>7}{'sink, share':>13}{'MiB':>7}"
        "  lost  doubled  what became of each is kept",
    ]
    for name in result.slots:
        cpu, feed, sink = (result.middle(name, figure) for figure in ("cpu", "feed_cpu", "sink_cpu"))
        share = 100 * sink / (cpu + feed + sink)
        lost, doubled = (
            sum(getattr(slot, what) for slot in result.slots[name]) for what in ("lost", "doubled")
        )
        lines.append(
            f"  {name:<20}{result.middle(name, 'rate'):>8.0f}{cpu:>12.3f}{feed:>7.3f}{sink:>7.3f}{share:>11.0f} %"
            f"{result.middle(name, 'memory') / 2**20:>7.0f}{lost:>6}{doubled:>9}  {result.records[name]}"
        )
    lines += [f"  {name:<20} is missing: {why}" for name, why in result.missing.items()]
    lines.append(f"  Todoku by the fastest that keeps it: {result.ratio:.2f}")
    lines.append(
        f"  Todoku, {result.many:,} recipients: created in {result.many_created:.1f} s, "
        f"{result.many_rate:.0f} a second, "
        f"{result.many_memory / 2**20:.0f} MiB ({result.few_memory / 2**20:.0f} MiB with {FEW:,})"
    )
    return "\n".join(lines) + "\n"


def verdicts(result: Result) -> list[tuple[str, float, float, bool]]:
    """What was aimed at, the target, the figure, and whether it was reached."""
    rate, flat = result.middle("Todoku", "rate"), result.many_memory / result.few_memory
    wrong = sum(slot.lost + slot.doubled for slot in result.slots["Todoku"])
    created = result.many_created * 1_000_000 / result.many
    return [
        ("bulk mail a second: at least", TARGET_RATE, rate, rate >= TARGET_RATE),
        (
            "by the fastest queue that records: at least",
            TARGET_RATIO,
            result.ratio,
            result.ratio >= TARGET_RATIO,
        ),
        (f"memory, {result.many:,} by {FEW:,}: at most", TARGET_FLAT, flat, flat <= TARGET_FLAT),
        ("seconds to create a million: at most", TARGET_CREATED, created, created <= TARGET_CREATED),
        ("bulk mail lost or doubled: at most", 0, wrong, wrong == 0),
    ]
