"""`python -m todoku.cli.services.daily_check`: once a day the judge looks at everything, and what it finds wrong is
reported to the agent, which has the postmaster told when something begins to be wrong and when it is over
(`delivery.alarms`).

This process only waits: the look is a process of its own, `todoku check --report`, which ends. When it was last done is
the time of the report itself, so that whoever is killed, whenever, neither misses a day nor looks all the time.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from todoku.delivery import alarms
from todoku.delivery.alarms import Alarm

if TYPE_CHECKING:
    from todoku.check.finding import Finding

log = logging.getLogger("todoku.check")

SOURCE = "check"
NAME = "todoku-check"
EVERY = 86_400.0  # seconds
FIRST = 3_600.0  # seconds after the first start: what `todoku apply` has begun takes its time at Oracle
AGAIN = 3_600.0  # seconds after a look that failed
_LONGEST = 120.0  # seconds that a look may take
# The agent itself looks at these all the time (`delivery.conditions`).
_OF_THE_AGENT = frozenset({"host.disk", "host.queue", "tls.expiry"})


def report(findings: Sequence[Finding], folder: Path = alarms.FOLDER) -> None:
    """Have the postmaster told of what has failed, and of what works but not for everybody. Raises OSError."""
    try:
        before = [each for each in alarms.reported(folder) if each.name.startswith(f"{SOURCE}:")]
    except OSError:
        before = []
    alarms.report(SOURCE, alarms_of(findings, before), folder)


def alarms_of(findings: Sequence[Finding], before: Sequence[Alarm] = ()) -> list[Alarm]:
    """What is wrong by these findings. What was wrong `before` and could not be found out this time stays wrong, and
    what only follows from something else is no alarm of its own."""
    from todoku.check.causes import consequences

    followers = consequences(findings)
    wrong: dict[str, Alarm] = {}
    unclear = set()
    for each in findings:
        name = f"{each.rule}:{each.about}"
        if each.rule in _OF_THE_AGENT or each.verdict.value == "pass":
            continue
        if each.verdict.value == "unknown" or each in followers:
            unclear.add(_topic(name))
        elif name in wrong:
            wrong[name] = _alarm(name, f"{wrong[name].found}; {each.seen}", wrong[name].advice)
        else:
            told = f"{each.about}: " if each.about and each.about not in each.seen else ""
            wrong[name] = _alarm(name, f"{told}{each.seen}", f"{each.advice} (`todoku check`: {each.rule})")
    for old in before:
        name = old.name.removeprefix(f"{SOURCE}:")
        if name not in wrong and _topic(name) in unclear:
            wrong[name] = _alarm(name, old.found, old.advice)
    return list(wrong.values())


def _alarm(name: str, found: str, advice: str) -> Alarm:
    # Somebody looks once a day: what is gone then is over, without waiting.
    return Alarm(name[:180], found, advice, calm=0.0)


def _topic(name: str) -> tuple[str, str]:
    """One look finds out about all rules of a topic and one thing, or about none of them."""
    rule, _, about = name.partition(":")
    return rule.partition(".")[0], about


# --- the service ------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--config", type=Path, help="the settings file")
    parser.add_argument("--every", type=float, default=EVERY, help="seconds (%(default)s)")
    parser.add_argument(
        "--first", type=float, default=FIRST, help="seconds until the first look (%(default)s)"
    )
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the process")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"{NAME} %(levelname)s: %(message)s")
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _caught, _frame: stopped.set())
    if options.pid_file is not None:
        fresh = options.pid_file.with_suffix(".new")
        fresh.write_text(f"{os.getpid()}\n")
        fresh.rename(options.pid_file)
    config = ["--config", str(options.config)] if options.config else []
    command = [sys.executable, "-I", "-c", "from todoku.cli.main import main; main()", *config]
    _loop([*command, "check", "--report", "--only-problems"], options.every, options.first, stopped)
    return 0


def _loop(command: Sequence[str], every: float, first: float, stopped: threading.Event) -> None:
    file = alarms.FOLDER / f"{SOURCE}.json"
    wait = due(_looked(file), time.time(), every, first)
    while not stopped.wait(wait):
        began = time.time()
        said = _look(command, stopped)
        looked = _looked(file)
        if looked is not None and looked >= began - 1:
            wait = every
        elif not stopped.is_set():
            log.error("the look failed: %s", said)
            wait = min(every, AGAIN)


def due(looked: float | None, now: float, every: float, first: float) -> float:
    """Seconds until the next look. `looked`: when the last one was; a clock that was set back counts for nothing."""
    if looked is None:
        return first
    return min(max(looked + every - now, 0.0), every)


def _looked(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def _look(command: Sequence[str], stopped: threading.Event) -> str:
    """The end of what was said. It is killed when it takes too long, and when this process is to stop."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        deadline = time.monotonic() + _LONGEST
        while process.poll() is None and time.monotonic() < deadline and not stopped.wait(0.2):
            pass
        if process.poll() is None:
            process.kill()
        reader.join(1)
    return " ".join("".join(lines[-5:]).split())[-500:]


if __name__ == "__main__":
    sys.exit(main())
