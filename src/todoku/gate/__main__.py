"""`python -m todoku.gate`: the gate in the foreground, for systemd (Type=notify) and supervisord alike."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from todoku.gate.context import load
from todoku.gate.listener import CannotListen
from todoku.gate.privileges import CannotBecome, drop, name_process
from todoku.gate.rule import RuleSet
from todoku.gate.rules import ORDER
from todoku.gate.server import SPOOL, Options, serve
from todoku.settings import DEFAULT_PATH, SettingsError

SOCKET = Path("/var/spool/postfix/todoku/gate")
USER = "todoku-gate"


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 1 cannot listen, 2 wrong usage or settings."""
    options = _parser().parse_args(arguments)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=stamp + "todoku-gate[%(process)d] %(levelname)s: %(message)s",
    )
    try:
        name_process()
        load(options.config)  # once as root, where it is: what it imports is then loaded
        drop(options.user)
        return serve(
            Options(
                socket=options.socket,
                workers=options.workers,
                group=options.group or None,
                spool=options.spool,
                pid_file=options.pid_file,
            ),
            RuleSet(ORDER),
            lambda: load(options.config),
        )
    except (SettingsError, CannotListen, CannotBecome) as error:
        print(f"todoku-gate: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="todoku-gate", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument(
        "--socket", type=Path, default=SOCKET, help="where Postfix finds the gate (%(default)s)"
    )
    parser.add_argument("--user", default=USER, help="whom to become when started as root (%(default)s)")
    parser.add_argument(
        "--group", default="postfix", help='who may use the socket; "" leaves its group alone'
    )
    parser.add_argument(
        "--workers", type=int, default=min(4, max(2, os.cpu_count() or 2)), help="(%(default)s)"
    )
    parser.add_argument("--spool", type=Path, default=SPOOL, help="folder of large bodies (%(default)s)")
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the parent process")
    return parser


def program() -> None:
    """The command `todoku-gate`."""
    sys.exit(main())


if __name__ == "__main__":
    program()
