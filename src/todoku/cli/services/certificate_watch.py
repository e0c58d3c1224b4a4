"""`python -m todoku.cli.services.certificate_watch`: renews certificates in time where there is no timer of systemd's.

Each round is a process of its own (`todoku certificate renew`), so that this one stays small and nothing that goes
wrong in a round ends it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

NAME = "todoku-renew"
EVERY = 12 * 3600.0  # seconds
_SOON = 60.0  # after the start, when Postfix and Dovecot run
_LONGEST = 1800.0


def main(arguments: list[str] | None = None) -> int:
    """Runs until it is told to stop; exit code 0."""
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/todoku/todoku.toml"), help="the settings file"
    )
    parser.add_argument("--every", type=float, default=EVERY, help="seconds (%(default)s)")
    parser.add_argument(
        "--first", type=float, default=_SOON, help="seconds until the first round (%(default)s)"
    )
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the process")
    options = parser.parse_args(arguments)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    if options.pid_file is not None:
        fresh = options.pid_file.with_suffix(".new")
        fresh.write_text(f"{os.getpid()}\n")
        fresh.rename(options.pid_file)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _caught, _frame: stopped.set())
    command = [sys.executable, "-I", "-m", "todoku.cli.main", "--config", str(options.config)]
    pause = options.first
    while not stopped.wait(pause):
        pause = options.every
        try:
            subprocess.run([*command, "certificate", "renew", "--quiet"], check=False, timeout=_LONGEST)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"{NAME}: the certificates could not be renewed: {error}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
