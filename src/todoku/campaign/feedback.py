"""What is heard after a message was taken: the relay's suppression list and its log, as `todoku-relay` fetches them
into files; and what has come back to us (`returned`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from todoku.campaign import health, returned
from todoku.campaign.opened import Opened
from todoku.campaign.relayed import RelayLog
from todoku.delivery import suppressions

log = logging.getLogger("todoku.campaign")


@dataclass(slots=True)
class Feedback:
    """Looks at the file when it has changed, at what is in the folder, and at what is new in the log."""

    file: Path = suppressions.FILE
    folder: Path = returned.FOLDER
    log: RelayLog | None = None
    _version: int = field(default=0, init=False)

    def hear(self, opened: Opened) -> None:
        """Raises `StoreError`. Without [cloud] there is no such file: then only what the relay answers, and what
        comes back to us, is known."""
        returned.collect(opened, self.folder)
        if self.log is not None:
            try:
                self.log.hear(opened)
            except OSError as error:
                log.warning("the relay's log cannot be read: %s", error)
        try:
            version = self.file.stat().st_mtime_ns
            if version == self._version:
                return
            told = suppressions.entries(self.file.read_bytes())
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s cannot be read: %s", self.file, error.strerror)
            return
        health.hear(opened, told)
        self._version = version
