# Bulk mail in PostgreSQL instead of the file: the same schema, the same sender. Here, since here is the server.

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from todoku.campaign import campaigns, health, lists, persons, segments, tokens
from todoku.campaign.lists import Evidence, Membership
from todoku.campaign.opened import Opened
from todoku.campaign.relay import Server
from todoku.campaign.sender import Sender
from todoku.campaign.template import Source
from todoku.delivery.entries import Told
from todoku.gate.limits import Limits
from todoku.settings import Settings
from todoku.store import campaign as store

SETTINGS = Settings.model_validate(
    {
        "hostname": "mx.hoge.example",
        "addresses": "203.0.113.10",
        "postmaster": "alice@hoge.example",
        "domains": [{"name": "hoge.example"}],
        "relay": {"region": "ap-tokyo-1"},
        "campaign": {
            "sender": "news@hoge.example",
            "sender_name": "Hoge",
            "url": "https://news.hoge.example",
            "warm_up": 100,
            "per_hour": 100,
            "per_domain_per_minute": 100,
        },
    }
)


@pytest.fixture
def opened(postgresql: str, tmp_path: Path) -> Opened:
    name = f"campaign_{os.getpid()}_{time.monotonic_ns()}"
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/createdb"))[-1]
    subprocess.run([programs, "-h", postgresql, "-U", "postgres", name], check=True)
    place = store.place(f"postgresql://postgres@/{name}?host={postgresql}")
    store.migrate(place)
    store.migrate(place)
    tokens.make(tmp_path / "key")
    return Opened(store.open(place), tokens.read(tmp_path / "key"), SETTINGS)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 sink\r\n")
    while line := await reader.readline():
        if line.startswith(b"DATA"):
            writer.write(b"354 Go\r\n")
            await reader.readuntil(b"\r\n.\r\n")
        gone = line.startswith(b"RCPT") and b"<gone@" in line
        writer.write(b"254 4.7.1 Suppression\r\n" if gone else b"250 Ok\r\n")
    writer.close()


def test_a_campaign_is_made_sent_and_accounted_for(opened: Opened, tmp_path: Path) -> None:
    news = lists.create(opened, "news", "News", "News, once a month", double=True, is_open=True)
    with opened.write() as connection:
        for address, city in (
            ("a@x.example", "Tokyo"),
            ("b@x.example", "Osaka"),
            ("gone@x.example", "Tokyo"),
        ):
            number = lists.put_subscriber(connection, address, {"city": city}, "ja", 5.0)
            lists.set_membership(
                connection, news, number, Membership.CONFIRMED, Evidence("added", "t", "x"), 5.0
            )
    assert len(segments.parse("city = Tokyo and not name")) == 2
    campaigns.create(opened, "spring", "news", Source("Hi", "x"), segment="city = Tokyo and not name")
    campaigns.start(opened, "spring")

    async def run() -> None:
        server = await asyncio.start_server(_relay, "127.0.0.1", 0)
        relay = Server("127.0.0.1", server.sockets[0].getsockname()[1], None, None)
        await Sender(opened, relay, Limits(SETTINGS, tmp_path / "limits")).run(until_idle=True)
        await Sender(opened, relay, Limits(SETTINGS, tmp_path / "limits")).run(until_idle=True)
        server.close()

    asyncio.run(run())
    health.hear(opened, [Told(time.time(), "", "a@x.example", "COMPLAINT", "", "", "", "")])
    (found,) = campaigns.overview(opened)
    assert (found["state"], found["numbers"]["sent"], found["numbers"]["suppressed"]) == ("finished", 1, 1)
    assert lists.overview(opened)[0]["subscribers"]["complained"] == 1
    persons.forget(opened, "a@x.example")
    assert persons.export(opened, "gone@x.example")["blocked"] == "suppressed"
