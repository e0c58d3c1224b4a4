"""The relay's own log, as `todoku-relay` fetches it into files: what became of a message after the relay took it.

Oracle's page "Details for Email Delivery" has the fields; it says that there may be others, and other values, at any
time. What cannot be understood is passed over, and so is what says nothing about delivery (opened, clicked).
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from todoku.delivery.entries import Entry, Heard
from todoku.delivery.hourly import HourlyFiles

log = logging.getLogger("todoku.agent")

FOLDER = Path("/var/lib/todoku/relay")
NAME = "log"
_TYPE = "com.oraclecloud.emaildelivery.emaildomain."
SOFT_BOUNCE = "soft bounce"  # the other side had trouble of its own until the relay gave up
_ACTIONS = ("relay", "bounce", "complaint")
_SUPPRESSED = re.compile(r"rec[ei]pient suppressed", re.IGNORECASE)  # both spellings are on Oracle's pages
_LATEST = 32_503_680_000.0  # the year 3000


class RelayLogSource:
    """`sources.Source` of these files, which are not ours to remove."""

    name = "relay's log"

    def __init__(self, folder: Path = FOLDER, position: str | None = None) -> None:
        self._files = HourlyFiles(folder, NAME, position)

    @property
    def position(self) -> str:
        return self._files.position

    def read(self) -> Sequence[Entry] | None:
        octets = self._files.read()
        if not octets:
            return None
        return [found for line in octets.split(b"\n") if line.strip() and (found := heard(line))]

    def committed(self) -> None:
        pass


def heard(line: bytes | str) -> Heard | None:
    """What one line says about a message; None for anything else."""
    try:
        read = json.loads(line)
        record = read["record"]
        data = record["data"]
        if not str(record["type"]).startswith(_TYPE):
            return None
        action = _action(data)
        if not action:
            return None
        return Heard(
            _moment(record),
            "",
            _text(read, "id", 250),
            action,
            " ".join(_text(data, "recipient", 320).lower().split()),
            _text(data, "messageId", 1000).strip().strip("<>"),
            _text(data, "smtpStatus", 1000) or _text(data, "message", 1000),
            _text(data, "recipientMailServer", 300),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        log.warning("a record of the relay's log cannot be understood: %.200r", line)
        return None


def written(entry: Heard) -> str:
    """The same again, for the ledger to keep."""
    return json.dumps(entry)


def kept(text: str) -> Heard:
    """What `written` made."""
    return Heard(*json.loads(text))


def _action(data: dict[str, Any]) -> str:
    action = data.get("action")
    if action == "bounce" and str(data.get("errorType", "")).strip().lower() == "soft":
        return SOFT_BOUNCE
    if action in _ACTIONS:
        return str(action)
    if action == "accept" and _SUPPRESSED.search(str(data.get("errorType", ""))):
        return "suppressed"
    return ""


def _moment(record: dict[str, Any]) -> float:
    when = datetime.fromisoformat(str(record["time"]).replace("Z", "+00:00"))
    moment = when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    if not math.isfinite(moment) or not 0 < moment < _LATEST:
        raise ValueError(moment)
    return moment


def _text(values: dict[str, Any], name: str, longest: int) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(name)
    return value[:longest]
