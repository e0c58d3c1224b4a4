# Bulk mail's database, with a key and a clock that the tests move.

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from campaign_browser import Browser
from campaign_place import Clock, settings

from todoku.campaign import lists, tokens
from todoku.campaign.opened import Opened
from todoku.store import campaign as store
from todoku.web.subscriptions import application


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


@pytest.fixture
def browser(opened: Opened) -> Iterator[Browser]:
    server = uvicorn.Server(uvicorn.Config(application(opened), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    yield Browser(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    server.should_exit = True
    thread.join()
