"""`python -m todoku.cli.services.relay_watch`: what the relay says of its own accord, fetched from the cloud into a
file.

The relay takes bounces and complaints for itself and puts the recipient on its suppression list; nothing is told to us.
So the list is fetched once a minute, and what is new in the relay's own log (`relay_log`). This process is root's, like
`todoku apply`, as it needs the key to the cloud; it reads nothing but Oracle's answers, and the agent, which has no
rights, reads the files and does the rest.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from todoku.settings import DEFAULT_PATH, SettingsError, load

if TYPE_CHECKING:
    from todoku.cloud.suppressions import Suppressions
    from todoku.settings import Settings

log = logging.getLogger("todoku.relay")

FILE = Path("/var/lib/todoku/relay/suppressions.json")
EVERY = 60.0  # seconds
NAME = "todoku-relay"


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 1 nothing to watch, 2 wrong usage or settings."""
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument("--group", default="todoku-agent", help="who may read the file (%(default)s)")
    parser.add_argument("--file", type=Path, default=FILE, help="where to write it (%(default)s)")
    parser.add_argument("--every", type=float, default=EVERY, help="seconds (%(default)s)")
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the process")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"{NAME} %(levelname)s: %(message)s")
    try:
        settings = load(options.config)
    except SettingsError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2
    if settings.cloud is None:
        print(f"{NAME}: the settings have no [cloud] table", file=sys.stderr)
        return 1
    from todoku.cli.parts import cloud as cloud_parts
    from todoku.cli.services import dkim_age
    from todoku.cloud.suppressions import Suppressions

    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    if options.pid_file is not None:
        _replace(options.pid_file, f"{os.getpid()}\n", options.group)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _caught, _frame: stopped.set())
    looks = {"suppression list": _suppressions(Suppressions.of(settings), options)}
    if settings.cloud.logs:
        looks["log"] = _log(settings, options)
    looks["DKIM keys"] = dkim_age.look(settings, lambda: cloud_parts.cloud(settings))
    _watch(looks, options.every, stopped)
    return 0


def _watch(looks: Mapping[str, Callable[[], None]], every: float, stopped: threading.Event) -> None:
    """Each look by itself: one that fails does not keep another from being done."""
    failing = dict.fromkeys(looks, "")
    while not stopped.is_set():
        for name, look in looks.items():
            try:
                look()
                failing[name] = ""
            except Exception as error:  # whatever it is, the next minute is another try
                if str(error) != failing[name]:
                    log.error("the relay's %s cannot be fetched: %s", name, error)
                failing[name] = str(error)
        stopped.wait(every)


def _suppressions(list_: Suppressions, options: argparse.Namespace) -> Callable[[], None]:
    known: dict[str, dict[str, Any]] = {}

    def look() -> None:
        nonlocal known
        known = _fetched(list_, known)
        text = json.dumps(sorted(known.values(), key=lambda each: each["address"]), indent=0)
        if not options.file.exists() or options.file.read_text() != text:
            _replace(options.file, text, options.group)

    return look


def _log(settings: Settings, options: argparse.Namespace) -> Callable[[], None]:
    from todoku.cli.services.relay_log import RelayLog
    from todoku.cloud.log_search import LogSearch

    search = LogSearch.of(settings)
    files = RelayLog(options.file.parent, lambda path: _share(path, options.group))

    def look() -> None:
        files.fetch(search.records)

    return look


def _fetched(list_: Suppressions, known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The entries by their id. What the other side said is not in the list: it is asked for once."""
    fetched = {}
    for each in list_.all():
        fetched[each.id] = known.get(each.id) or asdict(list_.find(each.address) or each)
    return fetched


def _replace(path: Path, text: str, group: str) -> None:
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w") as file:  # noqa: PTH123
        file.write(text)
    _share(fresh, group)
    fresh.rename(path)


def _share(path: Path, group: str) -> None:
    """The agent may read it, and nobody else."""
    path.chmod(0o640)
    with suppress(LookupError, PermissionError):
        shutil.chown(path, group=group)


if __name__ == "__main__":
    sys.exit(main())
