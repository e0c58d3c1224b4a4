"""Whether Postfix has a message, asked of the agent by its queue ID: the agent reads Postfix' queue and its log, and
the gate may neither.

A question is a file in the folder in which gate and agent tell each other things; it is answered by its being renamed
(`todoku.delivery.answers`). Nobody answers while the agent or Postfix is away: then it is not known yet.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/var/lib/todoku/exchange")
ASKED, IT_HAS, IT_HAS_NOT = "asked", "yes", "no"
_QUEUE_ID = re.compile(r"[0-9A-Za-z]{5,40}")


class Agent:
    """As the gate knows it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    def has(self, queue_id: str) -> bool | None:
        """Whether Postfix took the message with that queue ID; None: it is not known yet, and is asked. OSError."""
        if not _QUEUE_ID.fullmatch(queue_id):
            return False
        if self._file(queue_id, IT_HAS).exists():
            return True
        if self._file(queue_id, IT_HAS_NOT).exists():
            return False
        with suppress(FileExistsError):
            self._file(queue_id, ASKED).touch(mode=0o640, exist_ok=False)
        return None

    def forget(self, queue_id: str) -> None:
        """What it said was acted upon."""
        for kind in (ASKED, IT_HAS, IT_HAS_NOT):
            self._file(queue_id, kind).unlink(missing_ok=True)

    def _file(self, queue_id: str, kind: str) -> Path:
        return self._folder / f"queued-{queue_id}.{kind}"
