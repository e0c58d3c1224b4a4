"""Bounces of bulk mail, and complaints about it, are put into a folder for who keeps the lists.

The gate knows neither their key nor their database: it takes whatever has the form of such an address, and what of it
is true is found out by the one that reads it. It is on the disk before Postfix is told that it was taken.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable
from itertools import count
from pathlib import Path

from todoku.gate.decision import PASS, Change, Decision, DeleteRecipient, HoldBack
from todoku.gate.message import MessageSoFar
from todoku.settings import returns

log = logging.getLogger("todoku.gate")

FOLDER = Path("/var/lib/todoku/returned")
LARGEST = 256 * 1024  # bytes that are kept of one: what counts comes first
MOST = 10_000  # that wait to be read: whoever sends more may try again later
_NOT_NOW = HoldBack(451, "4.3.0", "Bounces cannot be taken now; please try again later")
_number = count()


class BulkReturn:
    """The rule. Its argument is for tests."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        settings = message.context.settings
        if settings is None or settings.campaign is None:
            return PASS
        wanted = settings.campaign
        returned = [each for each in message.recipients if returns.read(wanted, each)]
        return self._keep(message, returned) if returned else PASS

    async def _keep(self, message: MessageSoFar, returned: list[str]) -> Decision:
        content = message.headers.raw_as_arrived() + b"\r\n\r\n"
        for chunk in message.body_chunks():
            if len(content) >= LARGEST:
                break
            content += chunk
        try:
            for address in returned:
                await asyncio.to_thread(self._put, address, content[:LARGEST])
        except OSError as error:
            log.error("%s: a bounce of bulk mail cannot be kept: %s", message.queue_id, error)
            return _NOT_NOW
        return Change([DeleteRecipient(address) for address in returned])

    def _put(self, address: str, content: bytes) -> None:
        """The address on a line of its own, then the message. The folder's group reads it."""
        if sum(1 for _ in self._folder.iterdir()) >= MOST:
            raise OSError(f"{MOST:,} wait to be read in {self._folder}: does todoku-campaign run?")
        name = f"{time.time_ns()}.{os.getpid()}.{next(_number)}"
        fresh = self._folder / f".{name}"
        try:
            number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            with os.fdopen(number, "wb") as file:
                os.fchmod(number, 0o640)
                file.write(address.encode("ascii", "replace") + b"\n" + content)
                file.flush()
                os.fsync(number)
            fresh.rename(self._folder / name)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


bulk_returned = BulkReturn()
