# Somebody pulls the plug, or the kernel runs out of memory, while a protected copy goes from the gate to Postfix. The
# gate and Postfix are killed together, at every step of its way: no copy is lost, and none is sent twice by the gate.

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import test_protect
from conftest import World, wait
from test_protect import copies, gate_processes, submit, written

# slow: each of the twenty kills waits for supervisord to start the gate and Postfix anew
pytestmark = pytest.mark.slow

protects = test_protect.protects
SPOOL, QUEUE = Path("/var/lib/todoku/gate/protect"), Path("/var/spool/postfix")
MASTER = QUEUE / "pid/master.pid"
ROUNDS = 4  # of each step
PATIENCE = 30.0  # seconds


def jobs() -> set[str]:
    return {path.name for path in (SPOOL / "outgoing").iterdir() if not path.name.startswith(".")}


def marks() -> dict[str, str]:
    found = {}
    for path in (SPOOL / "marks").iterdir():
        if path.name.endswith(".0") and not path.name.startswith("."):
            try:
                found[path.name] = path.read_text()
            except FileNotFoundError:
                continue
    return found


def in_queue(queue_id: str) -> bool:
    """cleanup(8) gives a file the right to be executed when it is complete."""
    return any(os.access(QUEUE / name / queue_id, os.X_OK) for name in ("incoming", "active", "deferred"))


def on_the_disk(before: set[str], _marked: set[str]) -> bool:
    return bool(jobs() - before)


def has_passed(_before: set[str], marked: set[str]) -> bool:
    return bool(marks().keys() - marked)


def in_the_queue(_before: set[str], marked: set[str]) -> bool:
    return any(in_queue(queue_id) for copy, queue_id in marks().items() if copy not in marked)


def noted(before: set[str], _marked: set[str]) -> bool:
    return any(not (SPOOL / "outgoing" / job / "0.eml").exists() for job in jobs() - before)


STEPS = (on_the_disk, has_passed, in_the_queue, noted)


def kill_all() -> None:
    """The gate and Postfix, in as short a time as can be."""
    master = int(MASTER.read_text())
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for process in (*gate_processes(), *map(int, children), master):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def killer(step: Callable[[set[str], set[str]], bool], pause: float) -> int:
    """A process that kills everything once that step is reached, and `pause` seconds are over; 0: it was reached."""
    before, marked = jobs(), set(marks())
    process = os.fork()
    if process:
        return process
    reached = 1
    try:
        deadline = time.monotonic() + PATIENCE
        while reached and time.monotonic() < deadline:
            try:
                reached = 0 if step(before, marked) else 1
            except FileNotFoundError:
                continue
        time.sleep(pause)
        kill_all()
    finally:
        os._exit(reached)


def accepted(world: World, message: object) -> bool:
    try:
        return submit(world, message, [world.carol]).code == 250  # type: ignore[arg-type]
    except (OSError, AssertionError, ValueError):
        return False


@pytest.mark.timeout(900)
def test_kill_9_of_the_gate_and_postfix_at_every_step_loses_and_doubles_no_copy(
    protects: None, world: World
) -> None:
    assert submit(world, written(world, [world.carol], "before the kills"), [world.carol]).code == 250
    world.wait_for("before the kills")
    subjects, reached = [], []
    for number in range(ROUNDS):
        for step in STEPS:
            subjects.append(f"{step.__name__} {number}")
            message = written(world, [world.carol], subjects[-1])
            process = killer(step, 0.0007 * number)
            wait(lambda message=message: accepted(world, message), "the gate to take it", 90)  # type: ignore[misc]
            _, status = os.waitpid(process, 0)
            reached.append(os.waitstatus_to_exitcode(status) == 0)
    wait(lambda: accepted(world, written(world, [world.carol], "after the kills")), "the gate", 90)
    for subject in (*subjects, "after the kills"):
        world.wait_for(subject, 150)
    wait(lambda: not jobs(), "every copy to be settled", 150)
    world.flush()
    wait(lambda: not world.queue(), "an empty queue", 90)
    lost = [each for each in subjects if not copies(world, each)]
    # Which Postfix sends twice, as it was killed before it noted the relay's "250", has the same queue ID twice.
    doubled = [each for each in subjects if len({queue_ids(copy.raw) for copy in copies(world, each)}) > 1]
    print(f"{len(subjects)} kills, {sum(reached)} at their step: {len(lost)} lost, {len(doubled)} doubled")
    assert sum(reached) > len(subjects) / 2
    assert (lost, doubled) == ([], [])
    assert not list(Path("/var/lib/todoku/exchange").glob("queued-*"))
    assert marks() == {}


def queue_ids(raw: bytes) -> tuple[str, ...]:
    head = raw.partition(b"\r\n\r\n")[0].partition(b"\n\n")[0].decode("ascii", "replace")
    return tuple(re.findall(r"\(Postfix\) with \S+ id (\w+)", head))
