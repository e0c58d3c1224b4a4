"""Processor time and memory of whole families of processes, from /proc (proc(5)).

A family is a process and all that descend from it. Children that have ended are in the times of the parent that
waited for them (cutime, cstime), so nothing is missed that Postfix starts and ends meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    name: str
    cpu: float  # seconds, with those of its ended children


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: `pss` counts what is shared in proportion, `rss` in each process."""

    pss: int
    rss: int


def cpu(roots: Iterable[int]) -> float:
    """Seconds of processor time, user and system, that these families have taken in their lives."""
    return sum(process.cpu for process in _families(roots))


def cpu_by_name(roots: Iterable[int]) -> dict[str, float]:
    """The same by the name of the program. Ended children are under their parent's."""
    times: dict[str, float] = {}
    for process in _families(roots):
        times[process.name] = times.get(process.name, 0.0) + process.cpu
    return times


def memory(roots: Iterable[int]) -> Memory:
    pss = rss = 0
    for process in _families(roots):
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
        pss += int(fields["Pss"].split()[0]) * 1024
        rss += int(fields["Rss"].split()[0]) * 1024
    return Memory(pss, rss)


def named(name: str) -> list[int]:
    """The processes of that name whose parent has another: the heads of families."""
    everyone = {process.pid: process for process in _everyone()}
    return [
        process.pid
        for process in everyone.values()
        if process.name == name and (process.parent not in everyone or everyone[process.parent].name != name)
    ]


def _families(roots: Iterable[int]) -> list[_Process]:
    everyone = _everyone()
    children: dict[int, list[_Process]] = {}
    for process in everyone:
        children.setdefault(process.parent, []).append(process)
    wanted = set(roots)
    found = [process for process in everyone if process.pid in wanted]
    for process in found:  # grows while it is gone through
        found += [child for child in children.get(process.pid, []) if child.pid not in wanted]
    return found


def _everyone() -> list[_Process]:
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - thousands of times, and names are all that is wanted
        if entry.isdigit():
            try:
                found.append(parse(Path(f"/proc/{entry}/stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
    return found


def parse(stat: str) -> _Process:
    """A line of /proc/PID/stat. The name is in brackets and may have spaces and brackets of its own."""
    pid, _, rest = stat.partition(" (")
    name, _, rest = rest.rpartition(") ")
    fields = rest.split()
    return _Process(int(pid), int(fields[1]), name, sum(map(int, fields[11:15])) / _TICKS)
