"""The database and the key of bulk mail, opened together: everything that changes people or campaigns needs both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, insert

from todoku.campaign import tokens
from todoku.settings import Settings, returns
from todoku.settings.campaign import Campaign
from todoku.store import campaign as store

KEY = store.FOLDER / "key"


@dataclass(frozen=True, slots=True)
class Opened:
    """`clock` gives seconds since 1970; tests move it. `state`: the folder for what is kept beside the database; None:
    nothing is."""

    engine: Engine
    keys: tokens.Keys
    settings: Settings
    clock: Callable[[], float] = time.time
    state: Path | None = None

    @property
    def wanted(self) -> Campaign:
        assert self.settings.campaign is not None, "nothing is opened without [campaign]"  # noqa: S101
        return self.settings.campaign

    @property
    def domain(self) -> str:
        """Of the From address: what DMARC looks at."""
        return self.wanted.sender.rpartition("@")[2]

    @property
    def is_shared(self) -> bool:
        """In PostgreSQL, where several workers send at the same time."""
        return self.engine.dialect.name == "postgresql"

    def return_address(self, recipient: int) -> str:
        """The envelope sender of that row's message."""
        return returns.marked(self.wanted, self.keys.mark(recipient))

    def read(self) -> AbstractContextManager[Connection]:
        return store.read(self.engine)

    def write(self) -> AbstractContextManager[Connection]:
        return store.write(self.engine)


def inserted(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """The number of the row that was inserted."""
    key = connection.execute(insert(table), row).inserted_primary_key
    assert key is not None, "the tables number their rows"  # noqa: S101
    return int(key[0])


def open_campaigns(settings: Settings, key: Path = KEY, *, kept: bool = False) -> Opened:
    """The settings have to have [campaign]. `kept`: for a process that goes on using it.

    Raises `StoreError`, `CampaignError`.
    """
    assert settings.campaign is not None, "asked for before"  # noqa: S101
    engine = store.open(store.place_of(settings.campaign), kept=kept)
    return Opened(engine, tokens.read(key), settings, state=key.parent)
