"""What is heard after a message was taken: the relay's suppression list, as `todoku-relay` fetches it into a file; and
what has come back to us (`returned`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from todoku.campaign import health, returned
from todoku.campaign.opened import Opened
from todoku.delivery import suppressions

log = logging.getLogger("todoku.campaign")


@dataclass(slots=True)
class Feedback:
    """Looks at the file when it has changed, and at what is in the folder."""

    file: Path = suppressions.FILE
    folder: Path = returned.FOLDER
    _version: int = 0

    def hear(self, opened: Opened) -> None:
        """Raises `StoreError`. Without [cloud] there is no such file: then only what the relay answers, and what
        comes back to us, is known."""
        returned.collect(opened, self.folder)
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
