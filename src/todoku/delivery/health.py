"""How the agent is, in a file of its own: also when the ledger, which everything else is in, cannot be written.

`todoku status` reads it as root, and the folder is the agent's: it is opened without following a link, and believed in
nothing but its form.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FILE = Path("/var/lib/todoku/ledger/agent.json")
STALE = 60.0  # seconds after which an agent that says nothing does nothing
_SIZE = 4096  # bytes: one page, which is written at once
_LONGEST = 500  # characters of an error; each may take six in JSON


@dataclass(frozen=True, slots=True)
class Health:
    """Times are seconds since 1970. `error`: why nothing can be written, or empty; `since`: from when on.

    `lag`: seconds between a line's being written to the log and its being in the ledger; `pending`: entries that wait
    for the ledger; `passed_over`: entries that the ledger will not take, since the agent began.
    """

    time: float
    error: str = ""
    since: float | None = None
    lag: float = 0.0
    pending: int = 0
    passed_over: int = 0


class Told:
    """The file, open from the start and always of the same size: on a full disk there is still room for it."""

    def __init__(self, file: Path = FILE) -> None:
        """Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._number = os.open(file, flags, 0o600)
        os.posix_fallocate(self._number, 0, _SIZE)

    def tell(self, health: Health) -> None:
        """Raises OSError."""
        said = json.dumps(asdict(replace(health, error=health.error[:_LONGEST])))
        os.pwrite(self._number, said.encode().ljust(_SIZE)[:_SIZE], 0)

    def close(self) -> None:
        os.close(self._number)


def read(file: Path = FILE) -> Health | None:
    """None when it says nothing, or nothing that can be understood."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number, "rb") as opened:  # noqa: PTH123 - a number, and not a path
            if not stat.S_ISREG(os.fstat(number).st_mode):
                return None
            said = json.loads(opened.read(_SIZE))
        since = said["since"]
        return Health(
            float(said["time"]),
            str(said["error"])[:1000],
            None if since is None else float(since),
            float(said["lag"]),
            int(said["pending"]),
            int(said["passed_over"]),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
