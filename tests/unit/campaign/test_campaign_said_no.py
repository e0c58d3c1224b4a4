# "I had unsubscribed an hour before": who said no, or has had it, gets nothing, whatever was under way at that moment.

from __future__ import annotations

from pathlib import Path

from campaign_place import Clock, subscribe
from sink import OK, Sink
from test_campaign_sending import SOURCE, numbers, people, send, started

from todoku.campaign import campaigns, health, letters, lists, persons
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.delivery.entries import Told
from todoku.store import campaign_schema as schema


def test_who_bounces_while_it_is_sent_gets_nothing_any_more(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 3)
    health.hear(opened, [Told(clock.now, "", "p1@mailbox.example", "HARDBOUNCE", "", "550 gone", "", "")])
    sink = Sink()
    send(opened, sink, tmp_path)
    assert set(sink.counts) == {"p0@mailbox.example", "p2@mailbox.example"}
    assert (numbers(opened).sent, numbers(opened).suppressed) == (2, 1)


def test_who_unsubscribes_while_it_is_sent_gets_nothing_any_more(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 3)
    with opened.write() as connection:
        person = lists.subscriber(connection, "p1@mailbox.example")
        assert person is not None
        lists.unsubscribe(connection, news, person.id, "test", clock.now)
    sink = Sink()
    send(opened, sink, tmp_path)
    assert set(sink.counts) == {"p0@mailbox.example", "p2@mailbox.example"}
    assert numbers(opened).unsubscribed == 1


def test_who_unsubscribes_while_their_first_try_is_under_way_gets_no_second_one(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 2)

    def answer(stage: str, to: str) -> str:
        if stage != "rcpt" or to != "p1@mailbox.example":
            return OK
        with opened.write() as connection:
            lists.unsubscribe(connection, news, 2, "one click", clock.now)
        return "451 later"

    sink = Sink(answer=answer)
    send(opened, sink, tmp_path)
    clock.now += 400
    sink.answer = lambda _stage, _to: OK
    send(opened, sink, tmp_path)
    assert list(sink.counts) == ["p0@mailbox.example"]
    assert (numbers(opened).sent, numbers(opened).unsubscribed) == (1, 1)


def test_what_is_said_of_somebody_who_was_forgotten_meanwhile_is_not_kept(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    started(opened, news, 2)

    def answer(stage: str, to: str) -> str:
        if stage != "rcpt" or to != "p1@mailbox.example":
            return OK
        persons.forget(opened, to)
        return f"550 5.1.1 <{to}> is not known"

    send(opened, Sink(answer=answer), tmp_path)
    with opened.read() as connection:
        everything = "".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert "p1@mailbox" not in everything
    assert numbers(opened).failed == 1


def test_those_who_have_had_it_get_no_second_one(opened: Opened, news: int, tmp_path: Path) -> None:
    started(opened, news, 2)
    send(opened, Sink(), tmp_path)
    subscribe(opened, news, "new@mailbox.example")
    campaigns.create(opened, "again", "news", SOURCE, not_of="spring")
    campaigns.start(opened, "again")
    sink = Sink()
    send(opened, sink, tmp_path)
    assert list(sink.counts) == ["new@mailbox.example"]


def test_a_campaign_that_was_cancelled_half_way_can_be_sent_to_the_rest(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    people(opened, news, 6)
    subscribe(opened, news, "nameless@mailbox.example")
    greeting = Source("Hi", "{{ name }}, unsubscribe: {{ unsubscribe }}")
    campaigns.create(opened, "spring", "news", greeting)
    campaigns.start(opened, "spring")
    replies = {"p1@mailbox.example": "550 no", "p2@mailbox.example": "451 later"}
    send(opened, Sink(answer=lambda stage, to: replies.get(to, OK) if stage == "rcpt" else OK), tmp_path)
    waiting = schema.recipient.c.subscriber.in_([4, 5])
    with opened.write() as connection:
        connection.execute(schema.recipient.update().where(waiting).values(state="ready"))
    campaigns.create(opened, "early", "news", Source("Hi", "x"), not_of="spring")
    assert names(opened, "early") == {"nameless"}  # the others have had it, may still get it, or never will
    campaigns.cancel(opened, "spring")
    campaigns.create(opened, "rest", "news", Source("Hi", "x"), not_of="spring")
    assert names(opened, "rest") == {"nameless", "p2", "p3", "p4"}


def names(opened: Opened, campaign: str) -> set[str]:
    return {each.address.partition("@")[0] for each in letters.people(opened, campaign, 100)}
