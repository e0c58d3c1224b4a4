"""`python -m todoku.quarantine`: the service in the foreground, for systemd and supervisord alike.

Started as root it imports everything, forks what unpacks archives (as a user that has nothing), and becomes its own
user for good before it opens a socket.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from todoku.delivery.privileges import CannotBecome, drop, import_everything
from todoku.gate import srs
from todoku.protect.held import ROOT, Quarantine
from todoku.quarantine import unpacker
from todoku.quarantine.archive import Bounds
from todoku.quarantine.checking import Checker
from todoku.quarantine.keeper import Keeper
from todoku.quarantine.service import Service
from todoku.settings import DEFAULT_PATH, SettingsError, load

NAME = "todoku-held"  # what ps(1) shows, and how `todoku apply` recognises it
USER = "todoku-quarantine"
CLAMD_GROUP = "postfix"  # may use clamd's socket
_LAZY = (
    "asyncio",
    "concurrent",
    "Cryptodome",
    "pyzipper",
    "todoku.gate",
    "todoku.protect",
    "todoku.quarantine",
)
_SECRET = "secret"  # noqa: S105 - a file's name


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 1 cannot work, 2 wrong settings."""
    options = _parser().parse_args(arguments)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=stamp + f"{NAME}[%(process)d] %(levelname)s: %(message)s",
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # passwords are in it
    try:
        settings = load(options.config)
        import_everything(_LAZY)
        bounds = Bounds(octets=10 * settings.gate.malware_size)
        unpacking = unpacker.start(options.unpack_user, bounds)
        with suppress(OSError):
            Path("/proc/self/comm").write_text(NAME)
        if os.geteuid() == 0:
            drop(options.user, [CLAMD_GROUP])
        keeper = Keeper(Quarantine(), settings, srs.secret(ROOT / _SECRET), Checker(unpacking))
        options.pid_file.write_text(f"{os.getpid()}\n")
        asyncio.run(_serve(Service(keeper), unpacking))
    except (SettingsError, CannotBecome, OSError, ValueError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    return 0


async def _serve(service: Service, unpacking: unpacker.Unpacker) -> None:
    """Ends with what unpacks: whoever keeps this running then starts both anew."""
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(unpacking.control, gone.set)
    serving, ended = asyncio.ensure_future(service.serve()), asyncio.ensure_future(gone.wait())
    await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        print(f"{NAME}: what unpacks archives has ended", file=sys.stderr)
        os._exit(1)  # what is being looked into is decided by nobody
    await serving


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=USER, description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument("--user", default=USER, help="whom to become when started as root (%(default)s)")
    parser.add_argument(
        "--unpack-user", default=unpacker.NAME, help="whom what unpacks archives becomes (%(default)s)"
    )
    parser.add_argument("--pid-file", type=Path, default=ROOT / "pid", help="(%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
