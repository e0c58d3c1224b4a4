"""Tests that look at the rehearsal from outside: what it prints, how it ends, and that nothing of it stays behind.

They need root, as the rehearsal does: script/test starts them with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest_plugins = ["parts"]

TODOKU = str(Path(sys.executable).parent / "todoku")
CHECKOUT = Path(__file__).resolve().parents[2]
# Where a world could leave something, were it not thrown away.
PLACES = ("/etc", "/media", "/mnt", "/opt", "/run", "/srv", "/usr", "/var/lib", "/var/mail", "/var/spool")

if os.geteuid() != 0:
    pytest.exit("these tests make namespaces and mounts, which needs root: use script/test", returncode=2)


@dataclass(frozen=True)
class Traces:
    """What a rehearsal could leave behind on a machine."""

    processes: frozenset[str]
    mounts: str
    loops: str
    files: frozenset[str]
    packages: bytes
    status: str


def traces() -> Traces:
    return Traces(
        processes=frozenset(_world_processes()),
        mounts=Path("/proc/self/mountinfo").read_text(),
        loops=_loops(),
        files=frozenset(str(path) for place in PLACES for path in Path(place).glob("*")),
        packages=Path("/var/lib/dpkg/status").read_bytes(),
        status=_output("git", "-C", str(CHECKOUT), "status", "--porcelain"),
    )


def _world_processes() -> list[str]:
    names = ("todoku.rehearsal", "/usr/sbin/dovecot", "postfix", "knotd", "unbound", "supervisord")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if any(name in line for name in names):
            found.append(f"{process.name} {line}")
    return found


def _loops() -> str:
    """Loop devices by their files; without the layer of packages, which every rehearsal here has in use."""
    files = _output("losetup", "--list", "--noheadings", "--output", "BACK-FILE").splitlines()
    return "\n".join(file for file in files if not Path(file).name.startswith("layer-"))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def left_behind(before: Traces, after: Traces) -> list[str]:
    """What is there now and was not before; other programs may end or tidy up meanwhile."""
    new = [f"process {process}" for process in after.processes - before.processes]
    new += [f"file {name}" for name in after.files - before.files]
    for field in ("mounts", "loops", "status"):
        lines = set(getattr(before, field).splitlines())
        new += [f"{field}: {line}" for line in getattr(after, field).splitlines() if line not in lines]
    if after.packages != before.packages:
        new.append("packages were installed or removed")
    return new


@pytest.fixture
def nothing_stays_behind() -> Iterator[None]:
    """Compare the machine before and after the test."""
    before = traces()
    yield
    # What stays is left behind; what goes was being taken down by the kernel, or belongs to the rehearsal of a test
    # that runs at the same time in another part (--part): loop devices are the whole machine's.
    deadline = time.monotonic() + 120
    left = set(left_behind(before, traces()))
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left &= set(left_behind(before, traces()))
    assert not left
