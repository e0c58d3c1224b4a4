"""Where the mail to an address goes, as the directory exported it for Postfix: the gate asks before Postfix does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from todoku.gate.book import Watched
from todoku.settings import Settings

VIRTUAL_ALIAS = Path("/var/lib/todoku/directory/virtual_alias")


class AliasBook:
    """The exported aliases. Their targets are final: primary addresses here, and addresses elsewhere."""

    def __init__(self, path: Path = VIRTUAL_ALIAS, clock: Callable[[], float] = time.monotonic) -> None:
        self._watched = Watched[Mapping[str, tuple[str, ...]]](path, _aliases, {}, clock)

    def find(self, recipient: str, settings: Settings) -> tuple[str, tuple[str, ...]] | None:
        """The alias that Postfix will find for a recipient, and its targets; None: it is none."""
        book = self._watched.now
        local, _, domain = recipient.lower().rpartition("@")
        if not local:  # RCPT TO:<postmaster>
            local, domain = domain, settings.hostname
        if domain == settings.hostname:  # host_recipient.regexp
            local, _, domain = settings.postmaster.rpartition("@")
        for address in (f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}"):
            if address in book:
                return address, book[address]
        return None


def _aliases(text: str) -> dict[str, tuple[str, ...]]:
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip() and line[0] != "#")
    return {
        pair[0].lower(): tuple(each.strip() for each in pair[1].split(",") if each.strip())
        for pair in pairs
        if len(pair) == 2
    }
