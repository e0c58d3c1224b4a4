"""Benchmark "gate": Postfix with the gate against the same Postfix bare, with OpenDKIM, with a pymilter, and with the
least that a milter can be.

Side by side: short slots in turn, bare, gate, OpenDKIM, pymilter, floor, and again from the beginning, so that whatever
else the machine does meets all of them. The figures are medians of the slots; a ratio is the median of the ratios
within each round, shown with the least and the greatest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import host, load, processes, variants
from bench.host import World
from bench.variants import Variant

TARGET_OF_BARE = 0.85
TARGET_OF_OPENDKIM = 1.1
_PAIRS = (
    *(("gate", other) for other in ("bare", "opendkim", "pymilter", "floor")),
    ("floor", "bare"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What is submitted: bytes of a message, messages over one connection."""

    size: int
    per_session: int

    def __str__(self) -> str:
        return f"{self.size // 1024} KB, " + (
            "a connection for each" if self.per_session == 1 else f"{self.per_session} over a connection"
        )


KINDS = (Kind(4096, 1), Kind(4096, 50), Kind(256 * 1024, 1))


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of one variant. `rate`: messages accepted a second; `p50`, `p99`: milliseconds from the end of DATA to
    the answer; `cpu`: milliseconds of processor time of the mail host for a message, until its queue was empty;
    `milter_cpu`: those of the milter alone; `load_cpu`: those of the load, which shares the processors."""

    messages: int
    rate: float
    p50: float
    p99: float
    cpu: float
    milter_cpu: float
    load_cpu: float
    pss: int
    rss: int


@dataclass(slots=True)
class Result:
    """The slots by variant, in the order of the rounds."""

    kind: Kind
    slots: dict[str, list[Slot]] = field(default_factory=dict)

    def middle(self, variant: str, figure: str) -> float:
        return float(median(getattr(slot, figure) for slot in self.slots[variant]))

    def ratio(self, variant: str, other: str, figure: str = "rate") -> tuple[float, float, float]:
        """Least, median and greatest ratio within a round."""
        pairs = zip(self.slots[variant], self.slots[other], strict=True)
        ratios = [getattr(one, figure) / getattr(two, figure) for one, two in pairs]
        return min(ratios), median(ratios), max(ratios)

    def as_json(self) -> dict[str, Any]:
        figures = Slot.__slots__
        return {
            "size": self.kind.size,
            "messages_per_connection": self.kind.per_session,
            "variants": {
                name: {
                    "median": {figure: round(self.middle(name, figure), 4) for figure in figures},
                    "rates": [round(slot.rate, 1) for slot in slots],
                }
                for name, slots in self.slots.items()
            },
            "ratios": {
                f"{one}/{other}": dict(
                    zip(("least", "median", "greatest"), map(_three, self.ratio(one, other)), strict=True)
                )
                for one, other in _PAIRS
            },
        }


def measure(
    world: World, packages: Path, seconds: float, rounds: int, tell: Callable[[str], None]
) -> list[Result]:
    """`seconds`: length of a slot."""
    results = []
    with variants.all_of_them(world, packages) as everyone:
        for kind in KINDS:
            result = Result(kind)
            for each in everyone:  # a first taste, not counted: processes are started, caches filled
                _slot(world, each, kind, 1.0, "warm")
            for number in range(rounds):
                for each in everyone:
                    slot = _slot(world, each, kind, seconds, f"{number}")
                    result.slots.setdefault(each.name, []).append(slot)
                tell(f"{kind}: round {number + 1} of {rounds}")
            results.append(result)
    return results


def _slot(world: World, variant: Variant, kind: Kind, seconds: float, tag: str) -> Slot:
    settings = variants.settings(world, variant, tag=tag, size=kind.size, per_session=kind.per_session)
    seen: list[processes.Memory] = []
    families = {pid for pids in host.daemons().values() for pid in pids} | set(variant.families)
    before, milter_before = processes.cpu(families), processes.cpu(variant.families)
    outcome = load.run(settings, seconds, lambda: seen.append(variants.memory(variant)))
    host.drain()
    used = processes.cpu(families) - before
    milter_used = processes.cpu(variant.families) - milter_before
    points = quantiles(outcome.latencies, n=100)
    count = outcome.accepted
    return Slot(
        messages=count,
        rate=outcome.rate,
        p50=points[49] * 1000,
        p99=points[98] * 1000,
        cpu=used / count * 1000,
        milter_cpu=milter_used / count * 1000,
        load_cpu=outcome.cpu / count * 1000,
        pss=seen[0].pss,
        rss=seen[0].rss,
    )


def table(results: list[Result]) -> str:
    """As it is printed."""
    lines = []
    for result in results:
        lines += [
            f"{result.kind}:",
            f"  {'Postfix with':<14}{'msg/s':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms/msg':>12}"
            f"{'of it milter':>14}{'load':>7}{'PSS MiB':>9}{'RSS MiB':>9}",
        ]
        for name in result.slots:
            figures = {figure: result.middle(name, figure) for figure in Slot.__slots__}
            lines.append(
                f"  {'no milter' if name == 'bare' else name:<14}{figures['rate']:>8.0f}{figures['p50']:>9.1f}"
                f"{figures['p99']:>9.1f}{figures['cpu']:>12.2f}{figures['milter_cpu']:>14.2f}"
                f"{figures['load_cpu']:>7.2f}{figures['pss'] / 2**20:>9.0f}{figures['rss'] / 2**20:>9.0f}"
            )
        for one, other in _PAIRS:
            least, middle, most = result.ratio(one, other)
            lines.append(f"  {one:>5} / {other:<9} {middle:.2f}  ({least:.2f} to {most:.2f} in the rounds)")
        lines.append("")
    return "\n".join(lines)


def verdicts(results: list[Result]) -> list[tuple[str, float, float, bool]]:
    """What was aimed at, the target, the figure, and whether it was reached: at 4 KB, for each way to connect."""
    found = []
    for result in results:
        if result.kind.size == 4096:
            for other, target in (("bare", TARGET_OF_BARE), ("opendkim", TARGET_OF_OPENDKIM)):
                seen = result.ratio("gate", other)[1]
                found.append((f"gate / {other}, {result.kind}: at least", target, seen, seen >= target))
    return found


def _three(number: float) -> float:
    return round(number, 3)
