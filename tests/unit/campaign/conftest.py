# Bulk mail's database, with a key and a clock that the tests move; its pages, and its commands.

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from campaign_browser import Browser
from campaign_place import Clock, settings
from campaign_typed import Commands

from asked_relay import LOGIN, FakeSmtp
from todoku.campaign import lists, tokens
from todoku.campaign import opened as opened_module
from todoku.campaign.opened import Opened
from todoku.cli.parts import cloud as cloud_parts
from todoku.cloud import probe
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


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSmtp]:
    server = FakeSmtp(tmp_path_factory.mktemp("relay"))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def commands(
    opened: Opened, news: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relay: FakeSmtp
) -> Commands:
    """On a machine whose database of bulk mail is the test's, and whose relay takes all of the domain."""
    assert news
    monkeypatch.setattr(opened_module, "open_campaigns", lambda _: opened)
    monkeypatch.setattr(cloud_parts, "relay", lambda _: probe.Relay(relay.endpoint(), lambda: LOGIN))
    relay.approved, relay.throttled, relay.said = {"@hoge.example"}, False, []
    return Commands(tmp_path)
