"""What was decided about each message, for whoever keeps the ledger: a line of JSON at the end of a file.

One write(2) to a file that is open for appending: the kernel puts it behind all others, whole, whichever worker it
comes from, and from then on kill -9 takes nothing back. It takes some ten microseconds and waits for nobody: not for a
database, and not for the agent, which reads the files and removes them, and may be away for as long as it likes. A
datagram or a database would be one of the two: lost when nobody listens, or waited for.

A new file begins with every hour, never one before the last: when the clock is set back, the agent would not look at it
any more, and remove it. Each line begins with a line end as well, so that one that a full disk has cut does
not spoil the next. Without the folder (nobody keeps a ledger) nothing is written; what cannot be written is told in
the log, and the mail goes on.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from todoku.gate.decision import HoldBack, Verdict
from todoku.gate.message import MessageSoFar

log = logging.getLogger("todoku.gate")

FOLDER = Path("/var/lib/todoku/exchange")
_MOST_RECIPIENTS = 1000
_LONGEST = 1000  # characters of a text
_encoded = json.JSONEncoder(separators=(",", ":")).encode
_HOUR = "[0-9]" * 8 + "T[0-9][0-9]"
_LOOK_AGAIN = 30.0  # seconds until a folder that was not there is looked for again


class Records:
    """Called with each decision: the message, the verdict (None: it passed) and the rule that said it."""

    def __init__(self, folder: Path = FOLDER, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._opened: tuple[str, int] | None = None
        self._not_before = 0.0

    def __call__(self, message: MessageSoFar, verdict: Verdict | None, rule: str) -> None:
        now = self._clock()
        try:
            file = self._file(now)
            if file is not None:
                os.write(file, _line(message, verdict, rule, now))
        except OSError as error:
            log.error("what was decided about %s cannot be noted: %s", message.queue_id or "NOQUEUE", error)

    def _file(self, now: float) -> int | None:
        name = time.strftime("decisions-%Y%m%dT%H", time.gmtime(now))
        if self._opened is not None and name <= self._opened[0]:
            return self._opened[1]
        if now < self._not_before:
            return None
        if self._opened is not None:
            os.close(self._opened[1])
            self._opened = None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            name = max([name, *(path.name for path in self._folder.glob(f"decisions-{_HOUR}"))])
            file = os.open(self._folder / name, flags, 0o640)
            os.fchmod(file, 0o640)  # whatever the umask: the folder's group reads it
        except FileNotFoundError:
            self._not_before = now + _LOOK_AGAIN
            return None
        except PermissionError:
            self._not_before = now + _LOOK_AGAIN
            raise
        self._opened = name, file
        return file


def _line(message: MessageSoFar, verdict: Verdict | None, rule: str, now: float) -> bytes:
    settings = message.context.settings
    record: dict[str, object] = {
        "time": round(now, 3),
        "queue_id": message.queue_id or "",
        "login": message.login or "",
        "client": message.client.address,
        "sender": message.sender,
        "message_id": (message.headers.first("Message-ID") or "")[:_LONGEST],
        "size": message.headers.size + message.body_size,
        "recipients": message.recipients[:_MOST_RECIPIENTS],
        "decision": "passed",
    }
    if settings is not None and settings.ledger.subjects:
        record["subject"] = (message.headers.first("Subject") or "")[:_LONGEST]
    if verdict is not None:
        record["decision"] = "held back" if isinstance(verdict, HoldBack) else "refused"
        record["rule"] = rule
        record["words"] = f"{verdict.code} {verdict.enhanced} {' '.join(verdict.words.split())}"[:_LONGEST]
    # ASCII only: what a client sent may be no UTF-8, and is escaped.
    return f"\n{_encoded(record)}\n".encode("ascii")
