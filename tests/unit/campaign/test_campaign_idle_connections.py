# "Each morning the first ten of the newsletter came a minute late": the relay had closed the connections overnight, and
# what was given to them had to be tried again. Nobody has got such a message: it goes over a new connection at once.

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_place import agree, settings
from sink import OK, Sink
from sqlalchemy import select

from todoku.campaign import campaigns, sender
from todoku.campaign.opened import Opened
from todoku.campaign.sender import Sender
from todoku.campaign.template import Source
from todoku.gate.limits import Limits
from todoku.store import campaign_schema as schema

COUNT = 40
WIDE = {"per_minute": 18000, "per_day": 50000, "per_month": 1_500_000}
SAID = b"421 4.4.2 mx.example Error: timeout exceeded\r\n"


def send_two(opened: Opened, tmp_path: Path, sink: Sink, between: Callable[[], None]) -> None:
    """Two campaigns of one sender; `between` them its connections are idle."""
    changed = settings(plan=WIDE, per_second=10_000)
    here = Opened(opened.engine, opened.keys, changed, opened.clock)

    async def run() -> None:
        async with sink:
            sending = Sender(here, sink.relay, Limits(changed, tmp_path / "limits.sqlite3"))
            task = asyncio.create_task(sending.run())
            for name in ("spring", "summer"):
                campaigns.create(opened, name, "news", Source("Hi", "Hello"))
                campaigns.start(opened, name)
                deadline = time.monotonic() + 60
                while state(opened, name) != "finished":
                    if task.done():
                        task.result()
                    assert time.monotonic() < deadline, state(opened, name)
                    await asyncio.sleep(0.02)
                if name == "spring":
                    between()
            sending.stop()
            await task

    asyncio.run(run())


def state(opened: Opened, name: str) -> str:
    with opened.read() as connection:
        return str(campaigns.find(connection, name).state)


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("at", "words"), [("", b""), ("", SAID), ("MAIL", b""), ("MAIL", SAID), ("DATA", b"")]
)
def test_what_a_closed_connection_was_given_goes_over_a_new_one_at_once(
    opened: Opened,
    news: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    words: bytes,
    pipelining: bool,
) -> None:
    monkeypatch.setattr(sender, "_IDLE", 0.02)
    with opened.write() as connection:
        for number in range(COUNT):
            agree(opened, connection, news, f"p{number}@mailbox.example")
    sink = Sink(pipelining=pipelining)
    # The clock stands still: what is deferred would never be due, and the campaign never finished.
    send_two(opened, tmp_path, sink, lambda: sink.hang_up(at, words))
    assert sink.counts == {f"p{number}@mailbox.example": 2 for number in range(COUNT)}
    assert sink.connections > 1
    with opened.read() as connection:
        assert connection.execute(select(schema.attempt)).all() == []  # nothing but the one that was taken
        assert set(connection.execute(select(schema.recipient.c.attempts)).scalars()) == {1}


def test_what_is_said_unasked_is_not_taken_for_an_answer(
    opened: Opened, news: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_IDLE", 0.02)
    with opened.write() as connection:
        for number in range(COUNT):
            agree(opened, connection, news, f"p{number}@mailbox.example")
    sink = Sink()
    send_two(opened, tmp_path, sink, lambda: sink.say(b"250 2.0.0 Ok: queued\r\n"))
    assert sink.counts == {f"p{number}@mailbox.example": 2 for number in range(COUNT)}


def test_a_relay_that_hangs_up_on_every_connection_is_not_asked_without_end(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    with opened.write() as connection:
        for number in range(COUNT):
            agree(opened, connection, news, f"p{number}@mailbox.example")
    campaigns.create(opened, "spring", "news", Source("Hi", "Hello"))
    campaigns.start(opened, "spring")
    changed = settings(plan=WIDE, per_second=10_000)
    here = Opened(opened.engine, opened.keys, changed, opened.clock)
    sink = Sink(lambda stage, _: "cut" if stage == "mail" else OK)

    async def run() -> None:
        async with sink:
            await Sender(here, sink.relay, Limits(changed, tmp_path / "limits.sqlite3")).run(until_idle=True)

    asyncio.run(run())
    assert sink.connections <= 5  # one try of each
    with opened.read() as connection:
        assert campaigns.numbers(connection, 1).left == COUNT
