# Bulk mail's database, with a key and a clock that the tests move.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign_place import Clock, settings

from todoku.campaign import lists, tokens
from todoku.campaign.opened import Opened
from todoku.store import campaign as store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Opened]:
    place = store.place(str(tmp_path / "campaign.sqlite3"))
    store.migrate(place)
    tokens.make(tmp_path / "key")
    engine = store.open(place, kept=True)
    yield Opened(engine, tokens.read(tmp_path / "key"), settings(), clock)
    engine.dispose()


@pytest.fixture
def news(opened: Opened) -> int:
    """A list, double opt-in, open to everybody."""
    return lists.create(
        opened, "news", "ほげ通信", "月に一度のお知らせを受け取ります。", double=True, is_open=True
    )
