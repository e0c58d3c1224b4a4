# "The server crashed in the middle, and now we do not know who got it": the result of each is written after its answer.

from __future__ import annotations

import asyncio
import email
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaign_place import Clock, agree, settings, subscribe
from sink import OK, Sink

from todoku.campaign import campaigns, forms, health, lists, rows, sender, sole
from todoku.campaign.campaigns import Numbers
from todoku.campaign.errors import NotSoError
from todoku.campaign.opened import Opened
from todoku.campaign.relay import Server
from todoku.campaign.sender import Sender
from todoku.campaign.template import Source
from todoku.delivery.entries import Told
from todoku.gate.limits import Limits

SOURCE = Source("Hi", "Hello,\nunsubscribe: {{ unsubscribe }}\n")
WIDE = {"per_minute": 18000, "per_day": 50000, "per_month": 1_500_000}


def people(opened: Opened, news: int, count: int) -> None:
    with opened.write() as connection:
        for number in range(count):
            agree(opened, connection, news, f"p{number}@mailbox.example", name=f"P{number}")


def started(opened: Opened, news: int, count: int, name: str = "spring", **options: Any) -> None:
    people(opened, news, count)
    campaigns.create(opened, name, "news", options.pop("source", SOURCE), **options)
    campaigns.start(opened, name)


def send(opened: Opened, sink_or: Server | Sink, tmp_path: Path, **more: Any) -> None:
    """Everything that is due at the clock's time."""
    changed = settings(plan=WIDE, per_second=10_000, **more)
    here = replace(opened, settings=changed)
    limits = Limits(changed, tmp_path / "limits.sqlite3")

    async def run() -> None:
        if isinstance(sink_or, Server):
            await Sender(here, sink_or, limits).run(until_idle=True)
            return
        async with sink_or as sink:
            await Sender(here, sink.relay, limits).run(until_idle=True)

    asyncio.run(run())


def numbers(opened: Opened, name: str = "spring") -> Numbers:
    with opened.read() as connection:
        return campaigns.numbers(connection, campaigns.find(connection, name).id)


def state(opened: Opened, name: str = "spring") -> tuple[str, str]:
    with opened.read() as connection:
        found = campaigns.find(connection, name)
    return found.state, found.words or ""


@pytest.mark.parametrize("pipelining", [True, False])
def test_everybody_gets_it_once_over_few_connections(
    opened: Opened, news: int, tmp_path: Path, pipelining: bool
) -> None:
    started(opened, news, 300)
    sink = Sink(pipelining=pipelining)
    send(opened, sink, tmp_path)
    assert sink.counts == {f"p{number}@mailbox.example": 1 for number in range(300)}
    assert len({message_id for _, message_id in sink.taken}) == 300
    assert sink.connections <= 5
    assert numbers(opened).sent == 300
    assert state(opened)[0] == "finished"


def test_254_is_kept_as_suppressed_and_that_person_gets_nothing_more(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    started(opened, news, 3)
    said = "254 4.7.1 Suppression for user x to p1@mailbox.example"
    send(opened, Sink(lambda stage, to: said if stage == "rcpt" and to.startswith("p1@") else OK), tmp_path)
    assert (numbers(opened).sent, numbers(opened).suppressed) == (2, 1)
    campaigns.create(opened, "summer", "news", SOURCE)
    assert numbers(opened, "summer").total == 2


def test_4xx_is_tried_again_later_and_5xx_never(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 4)

    def first(stage: str, to: str) -> str:
        if stage == "rcpt" and to.startswith("p1@"):
            return "451 4.3.0 Server error"
        return "550 5.1.1 no such user" if stage == "eom" and to.startswith("p2@") else OK

    send(opened, Sink(first), tmp_path)
    assert (numbers(opened).sent, numbers(opened).deferred, numbers(opened).failed) == (2, 1, 1)
    again = Sink()
    send(opened, again, tmp_path)
    assert again.taken == []
    clock.now += sender.AGAIN + 1
    send(opened, again, tmp_path)
    assert [to for to, _ in again.taken] == ["p1@mailbox.example"]
    assert state(opened)[0] == "finished"


def test_a_sender_that_is_started_again_leaves_gmail_alone_for_ten_minutes(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 3)
    said = "421 4.7.28 Gmail has detected an unusual rate of mail"
    send(opened, Sink(lambda stage, _: said if stage == "eom" else OK), tmp_path, connections=1)
    clock.now += 400  # the message itself is due again after 300
    again = Sink()
    send(opened, again, tmp_path, connections=1)
    assert again.taken == []
    clock.now += 400
    send(opened, again, tmp_path, connections=1)
    assert len(again.taken) == 3


def test_what_the_relay_never_takes_is_given_up(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 1)
    for _ in range(sender.TRIES):
        send(opened, Sink(lambda stage, _: "451 no" if stage == "eom" else OK), tmp_path)
        clock.now += 5 * 3600
    assert (numbers(opened).failed, state(opened)[0]) == (1, "finished")


def test_a_full_plan_holds_everything_and_counts_as_no_attempt(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 20)
    full = "455 Maximum messages sent per minute reached : limit is 10"
    asked: list[str] = []

    def answer(stage: str, to: str) -> str:
        if stage == "rcpt":
            asked.append(to)
        return full if stage == "rcpt" and len(asked) > 10 else OK

    send(opened, Sink(answer), tmp_path)
    assert numbers(opened).sent == 10
    assert numbers(opened).ready == 10
    assert len(asked) <= 15  # what five connections had on their way
    clock.now += 61
    send(opened, Sink(), tmp_path)
    assert numbers(opened).sent == 20


def test_a_relay_that_refuses_us_stops_the_campaign(opened: Opened, news: int, tmp_path: Path) -> None:
    started(opened, news, 50)
    said = "535 Authorization failed: Envelope From address news@hoge.example not authorized"
    asked: list[str] = []

    def refuse(stage: str, _: str) -> str:
        asked.append(stage)
        return said if stage == "mail" else OK

    send(opened, Sink(refuse), tmp_path)
    assert state(opened) == ("stopped", f"the relay refuses the sender: {said}")
    assert numbers(opened).ready == 50
    assert asked.count("mail") <= 5  # the relay locks out who keeps trying
    campaigns.start(opened, "spring")
    send(opened, Sink(), tmp_path)
    assert numbers(opened).sent == 50


def test_answers_to_a_form_go_on_by_themselves_once_the_relay_takes_us(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    with opened.read() as connection:
        of = lists.find(connection, "news")
    forms.ask(opened, of, forms.Asked("bob@mailbox.example", "en", "192.0.2.1", "/subscribe/news"))
    send(opened, Sink(lambda stage, _: "535 not authorized" if stage == "mail" else OK), tmp_path)
    sink = Sink()
    send(opened, sink, tmp_path)
    assert list(sink.counts) == ["bob@mailbox.example"]
    message = email.message_from_bytes(sink.raw[0])
    text = message.get_payload(decode=True)
    assert isinstance(text, bytes) and b"https://news.hoge.example/confirm/" in text
    assert message["List-Unsubscribe"] is None


def test_a_cut_connection_loses_nothing(opened: Opened, news: int, clock: Clock, tmp_path: Path) -> None:
    started(opened, news, 40)
    seen: list[str] = []

    def cut(stage: str, to: str) -> str:
        if stage == "eom":
            seen.append(to)
        return "cut" if stage == "eom" and len(seen) % 7 == 0 else OK

    sink = Sink(cut)
    for _ in range(60):
        send(opened, sink, tmp_path)
        clock.now += 61
        if not numbers(opened).left:
            break
    assert set(sink.counts) == {f"p{number}@mailbox.example" for number in range(40)}
    assert numbers(opened).sent == 40
    ids = {to: {message_id for who, message_id in sink.taken if who == to} for to in sink.counts}
    assert all(len(each) == 1 for each in ids.values())


def test_nobody_is_there_and_nothing_is_lost(opened: Opened, news: int, clock: Clock, tmp_path: Path) -> None:
    started(opened, news, 10)
    for _ in range(2 * sender.TRIES):  # that uses up nobody's tries
        send(opened, Server("127.0.0.1", 1, None, None), tmp_path)
        clock.now += 400
    assert (numbers(opened).sent, numbers(opened).left) == (0, 10)
    send(opened, Sink(lambda stage, _: "451 later" if stage == "rcpt" else OK), tmp_path)
    assert numbers(opened).left == 10
    clock.now += 400
    send(opened, Sink(), tmp_path)
    assert numbers(opened).sent == 10


@pytest.mark.parametrize(
    "greeting",
    ["cut", "hello", "99", "", "421 Too many connections, try again later", "x" * 5000, "٢٢٠ sink", "220"],
)
def test_what_is_no_greeting_sends_nothing_and_loses_nothing(
    opened: Opened, news: int, clock: Clock, tmp_path: Path, greeting: str
) -> None:
    started(opened, news, 2)
    sink = Sink(lambda stage, _: greeting if stage == "connect" else OK)
    send(opened, sink, tmp_path)
    assert len(sink.taken) == (2 if greeting == "220" else 0)
    assert state(opened)[0] != "stopped"
    clock.now += 400
    send(opened, Sink(), tmp_path)
    assert numbers(opened).sent == 2


def test_five_percent_of_bounces_stop_it_and_starting_it_again_goes_on(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    started(opened, news, 400)
    bad = Sink(
        lambda stage, to: (
            "550 5.1.1 no" if stage == "rcpt" and int(to[1:].partition("@")[0]) % 10 == 0 else OK
        )
    )
    send(opened, bad, tmp_path)
    assert state(opened)[0] == "stopped"
    assert "5 % is too much" in state(opened)[1]
    assert numbers(opened).ready > 100
    campaigns.start(opened, "spring")
    send(opened, bad, tmp_path)
    assert state(opened)[0] == "finished"
    assert (numbers(opened).failed, numbers(opened).sent) == (40, 360)


def test_complaints_stop_it_and_change_the_person(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 300)
    sink = Sink()
    send(opened, sink, tmp_path, per_hour=200)
    assert numbers(opened).sent == 200
    who = [to for to, _ in sink.taken][:2]
    told = [Told(clock.now + 5, "", to, "COMPLAINT", "", "", "", "") for to in who]
    health.hear(opened, told)
    health.hear(opened, told)
    assert numbers(opened).complained == 2
    clock.now += 3700
    send(opened, sink, tmp_path, per_hour=1)
    assert state(opened)[0] == "stopped"
    assert lists.overview(opened)[0]["subscribers"]["complained"] == 2


def test_a_bounce_is_found_by_its_message_id(opened: Opened, news: int, clock: Clock, tmp_path: Path) -> None:
    started(opened, news, 1)
    first = Sink()
    send(opened, first, tmp_path)
    campaigns.create(opened, "summer", "news", SOURCE)
    campaigns.start(opened, "summer")
    send(opened, Sink(), tmp_path)
    to, message_id = first.taken[0]
    health.hear(
        opened, [Told(clock.now + 5, "", to, "HARDBOUNCE", message_id.strip("<>"), "550 gone", "", "")]
    )
    assert (numbers(opened).bounced, numbers(opened, "summer").bounced) == (1, 0)
    campaigns.create(opened, "autumn", "news", SOURCE)
    assert numbers(opened, "autumn").total == 0


def test_two_senders_do_not_send_at_the_same_time(opened: Opened, news: int, tmp_path: Path) -> None:
    release = sole.hold(opened.engine)
    assert release is not None
    assert sole.hold(opened.engine) is None
    started(opened, news, 1)
    changed = settings(plan=WIDE)
    here = Opened(opened.engine, opened.keys, changed, opened.clock)

    async def run() -> None:
        async with Sink() as sink:
            waiting = Sender(here, sink.relay, Limits(changed, tmp_path / "limits.sqlite3"))
            task = asyncio.create_task(waiting.run(until_idle=True))
            await asyncio.sleep(0.3)
            assert sink.taken == [] and not task.done()
            waiting.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(run())
    release()
    again = sole.hold(opened.engine)
    assert again is not None
    again()


def test_paused_and_cancelled(opened: Opened, news: int, tmp_path: Path) -> None:
    started(opened, news, 3)
    campaigns.pause(opened, "spring")
    sink = Sink()
    send(opened, sink, tmp_path)
    assert sink.taken == []
    campaigns.start(opened, "spring")
    campaigns.cancel(opened, "spring")
    send(opened, sink, tmp_path)
    assert sink.taken == []
    assert (numbers(opened).cancelled, state(opened)[0]) == (3, "cancelled")
    with pytest.raises(NotSoError, match="cancelled"):
        campaigns.start(opened, "spring")


def test_it_begins_when_it_was_told_to(opened: Opened, news: int, clock: Clock, tmp_path: Path) -> None:
    people(opened, news, 1)
    campaigns.create(opened, "spring", "news", SOURCE)
    campaigns.start(opened, "spring", clock.now + 1000)
    sink = Sink()
    send(opened, sink, tmp_path)
    assert sink.taken == []
    clock.now += 1001
    send(opened, sink, tmp_path)
    assert len(sink.taken) == 1


def test_without_evidence_a_reason_is_asked_for_and_kept(opened: Opened, news: int) -> None:
    subscribe(opened, news, "alice@mailbox.example", evidence="")
    with pytest.raises(NotSoError, match="--reason"):
        campaigns.create(opened, "spring", "news", SOURCE)
    campaigns.create(opened, "spring", "news", SOURCE, reason="members, by the statutes")
    with opened.read() as connection:
        assert campaigns.find(connection, "spring").reason == "members, by the statutes"


def test_two_subjects_go_to_half_each(opened: Opened, news: int, tmp_path: Path) -> None:
    started(opened, news, 20, source=Source("One", "x", subject_b="Two"))
    sink = Sink()
    send(opened, sink, tmp_path)
    assert sum(b"Subject: One" in raw for raw in sink.raw) == 10
    assert sum(b"Subject: Two" in raw for raw in sink.raw) == 10
    one = next(to for (to, _), raw in zip(sink.taken, sink.raw, strict=True) if b"Subject: Two" in raw)
    health.hear(opened, [Told(opened.clock() + 5, "", one, "COMPLAINT", "", "", "", "")])
    with opened.read() as connection:
        heard = campaigns.by_subject(connection, 1)
    assert (heard["a"]["sent"], heard["b"]["sent"]) == (10, 10)
    assert (heard["a"]["complained"], heard["b"]["complained"]) == (0, 1)


def test_a_message_that_cannot_be_filled_in_fails_alone(opened: Opened, news: int, tmp_path: Path) -> None:
    subscribe(opened, news, "nameless@mailbox.example")
    started(opened, news, 2, source=Source("Hi", "{{ name }}"))
    sink = Sink()
    send(opened, sink, tmp_path)
    assert len(sink.taken) == 2
    assert numbers(opened).failed == 1


def test_what_was_on_its_way_when_a_campaign_was_cancelled_and_the_sender_died_is_cancelled(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    started(opened, news, 3)
    with opened.write() as connection:
        assert len(rows.lease(connection, 1, 1, opened.clock())) == 1
    campaigns.cancel(opened, "spring")
    with opened.write() as connection:
        assert rows.cancel_left(connection, opened.clock() + 1e9) == 0  # of a sender that may be there
    assert (numbers(opened).leased, numbers(opened).cancelled) == (1, 2)
    sink = Sink()
    send(opened, sink, tmp_path)  # the next sender
    assert sink.taken == []
    assert (numbers(opened).left, numbers(opened).cancelled) == (0, 3)
