"""The relay's suppression list, as `todoku-relay` fetches it into a file: for the ledger, and for the gate.

An entry that a message has caused says what became of that message. All entries together are what the gate refuses at
submission; it gets them as lines of text: address, tab, reason, tab, day.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from todoku.delivery.entries import Told

log = logging.getLogger("todoku.agent")

FILE = Path("/var/lib/todoku/relay/suppressions.json")
_AGAIN = 300.0  # seconds
FOR_THE_GATE = "suppressed"  # in the exchange folder


@dataclass(slots=True)
class SuppressionList:
    """Looks at the file when it has changed."""

    file: Path
    exchange: Path
    _version: tuple[int, int] = (0, 0)

    def news(self) -> list[Told]:
        """Every entry, when the list has changed; nothing otherwise. OSError."""
        try:
            stat = self.file.stat()
        except FileNotFoundError:
            return []
        # From time to time also when it has not changed: the log may have been behind, and twice does no harm.
        version = (stat.st_mtime_ns, int(time.time() / _AGAIN))
        if version == self._version:
            return []
        told = entries(self.file.read_bytes())
        self._tell_the_gate(told)
        self._version = version
        return told

    def _tell_the_gate(self, told: list[Told]) -> None:
        """Others than gate and agent do not find the way to it, whatever its mode."""
        lines = (f"{each.address}\t{each.reason}\t{each.day}\n" for each in told)
        fresh = self.exchange / f"{FOR_THE_GATE}.new"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as file:  # noqa: PTH123
            os.fchmod(file.fileno(), 0o644)
            file.writelines(lines)
        fresh.rename(self.exchange / FOR_THE_GATE)


def entries(octets: bytes) -> list[Told]:
    """What the file says; an entry that cannot be understood is passed over."""
    found = []
    try:
        listed = json.loads(octets)
    except ValueError:
        log.error("the suppression list cannot be understood")
        return []
    for each in listed if isinstance(listed, list) else []:
        try:
            created = datetime.fromisoformat(each["created"].replace("Z", "+00:00"))
            found.append(
                Told(
                    created.timestamp(),
                    "",
                    " ".join(str(each["address"]).lower().split()),
                    str(each["reason"]),
                    str(each.get("message_id", "")).strip("<>"),
                    str(each.get("detail", "")),
                    str(each.get("source", "")),
                    created.strftime("%Y-%m-%d"),
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("an entry of the suppression list cannot be understood: %.200r", each)
    return found
