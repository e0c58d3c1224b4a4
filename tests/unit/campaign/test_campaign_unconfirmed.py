# Who asked to be on a list and never confirmed it is removed after a time; who said yes, or no, is not.

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from campaign_browser import Browser
from campaign_place import Clock, subscribe
from sink import OK, Sink
from sqlalchemy import select
from test_campaign_pages import path, persons_number
from test_campaign_sending import send, started

from todoku.campaign import __main__ as process
from todoku.campaign import health, lists, persons, unconfirmed
from todoku.campaign.forms import Asked, ask
from todoku.campaign.opened import Opened
from todoku.delivery.entries import Told
from todoku.store import campaign_schema as schema

DAY = 86_400.0


def wish(opened: Opened, list_: str, address: str) -> None:
    with opened.read() as connection:
        row = lists.find(connection, list_)
    ask(opened, row, Asked(address, "ja", "192.0.2.1", f"/subscribe/{list_}"))


def known(opened: Opened) -> dict[str, list[str]]:
    """Address -> the states of its subscriptions."""
    person, of = schema.subscriber, schema.subscription
    joined = select(person.c.address, of.c.state).join(of, of.c.subscriber == person.c.id, isouter=True)
    found: dict[str, list[str]] = {}
    with opened.read() as connection:
        for address, state in connection.execute(joined.order_by(person.c.address, of.c.list)):
            found.setdefault(address.partition("@")[0], []).append(state)
    return found


def test_who_never_confirms_is_removed_with_all_that_was_kept(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    wish(opened, "news", "bob@mailbox.example")

    def answer(stage: str, to: str) -> str:
        return f"451 {to} later" if stage == "rcpt" else OK

    send(opened, Sink(answer=answer), tmp_path)
    clock.now += 30 * DAY - 1
    assert unconfirmed.forget(opened) == 0
    clock.now += 2
    assert unconfirmed.forget(opened) == 1
    with opened.read() as connection:
        everything = "".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
        file = Path(connection.engine.url.database or "")
    assert "bob@" not in everything and "192.0.2.1" not in everything
    assert all(b"bob@" not in each.read_bytes() for each in file.parent.glob(file.name + "*"))
    sink = Sink()
    send(opened, sink, tmp_path)
    assert not sink.counts  # the message to him was not sent later
    # Other than somebody who asked to be forgotten: they may be imported.
    with opened.read() as connection:
        assert not persons.is_forgotten(opened, connection, "bob@mailbox.example")


def test_who_said_yes_or_no_or_has_asked_anew_stays(opened: Opened, news: int, clock: Clock) -> None:
    events = lists.create(opened, "events", "Events", "Events", double=True, is_open=True)
    assert events
    subscribe(opened, news, "confirmed@mailbox.example")
    for name in ("confirmed", "asked.anew", "bounced", "left"):
        wish(opened, "events", f"{name}@mailbox.example")
    left = subscribe(opened, news, "left@mailbox.example")
    with opened.write() as connection:
        lists.unsubscribe(connection, news, left, "test", clock.now)
    health.hear(
        opened, [Told(clock.now, "", "bounced@mailbox.example", "HARDBOUNCE", "", "550 gone", "", "")]
    )
    clock.now += 20 * DAY
    wish(opened, "events", "asked.anew@mailbox.example")
    clock.now += 11 * DAY
    assert unconfirmed.forget(opened) == 2  # the requests of "confirmed" and "left" for the other list
    assert known(opened) == {
        "asked.anew": ["unconfirmed"],
        "bounced": ["unconfirmed"],
        "confirmed": ["confirmed"],
        "left": ["unsubscribed"],
    }
    consents = persons.export(opened, "confirmed@mailbox.example")["consent"]
    assert [each["list"] for each in consents] == ["news"]
    clock.now += 20 * DAY
    assert unconfirmed.forget(opened) == 1
    assert "asked.anew" not in known(opened)


def test_the_link_of_a_request_that_was_removed_says_how_to_ask_again(
    opened: Opened, news: int, clock: Clock, browser: Browser
) -> None:
    lists.create(opened, "events", "Events", "Events", double=True, is_open=True)
    wish(opened, "events", "bob@mailbox.example")
    wish(opened, "news", "both@mailbox.example")
    both = subscribe(opened, 2, "both@mailbox.example")
    links = [
        path(opened, "confirm", persons_number(opened, "bob@mailbox.example"), 2),
        path(opened, "confirm", both, news),
    ]
    clock.now += 31 * DAY
    assert unconfirmed.forget(opened) == 2
    for link in links:
        status, told = browser.post(link + "?lang=ja")
        assert status == 404 and "もう一度お申し込みください" in told
    assert known(opened) == {"both": ["confirmed"]}


def test_more_than_one_piece(
    opened: Opened, news: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unconfirmed, "_AT_ONCE", 3)
    for number in range(7):
        wish(opened, "news", f"p{number}@mailbox.example")
    clock.now += 31 * DAY
    assert unconfirmed.forget(opened) == 7
    assert known(opened) == {}


def test_a_campaign_that_is_under_way_is_not_touched(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 3)
    wish(opened, "news", "bob@mailbox.example")
    clock.now += 31 * DAY
    assert unconfirmed.forget(opened) == 1
    sink = Sink()
    send(opened, sink, tmp_path)
    assert len(sink.counts) == 3


def test_the_sender_looks(opened: Opened, news: int, clock: Clock) -> None:
    wish(opened, "news", "bob@mailbox.example")
    clock.now += 31 * DAY
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)

    async def watch() -> None:
        watching = asyncio.create_task(process._watch(opened, theirs))
        async with asyncio.timeout(30):
            await asyncio.get_running_loop().run_in_executor(None, ours.recv, 1 << 16)
        watching.cancel()

    with ours, theirs:
        asyncio.run(watch())
    assert known(opened) == {}
