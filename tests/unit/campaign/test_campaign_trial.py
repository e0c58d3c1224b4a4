# "Half of them got the bad subject": two subjects are tried on a part, and the others get the better one, once.

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from campaign_place import Clock
from hypothesis import given
from hypothesis import strategies as st
from sink import Sink
from test_campaign_sending import numbers, people, send, state

from todoku.campaign import campaigns, lists, trial
from todoku.campaign.errors import NotSoError
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.campaign.trial import Seen, Trial
from todoku.store import campaign_schema as schema

TWO = Source("Alpha", "Hello,\nunsubscribe: {{ unsubscribe }}\n", None, "Beta")


def subjects(sink: Sink) -> Counter[str]:
    return Counter("Alpha" if b"Subject: Alpha" in raw else "Beta" for raw in sink.raw)


def objecting(opened: Opened, variant: str, count: int) -> None:
    """So many of those who got that subject unsubscribe, by the link in it."""
    got = schema.recipient
    with opened.write() as connection:
        rows = connection.execute(
            got.select().where(got.c.variant == variant, got.c.state == "sent").limit(count)
        )
        for row in rows.all():
            lists.unsubscribe(connection, 1, row.subscriber, "test", opened.clock(), row.id)


def test_the_others_wait_and_get_the_better_subject_and_nobody_gets_two(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    people(opened, news, 200)
    campaigns.create(opened, "spring", "news", TWO, test=Trial(40, after=4 * 3600.0))
    campaigns.start(opened, "spring")
    sink = Sink()
    send(opened, sink, tmp_path)
    assert subjects(sink) == {"Alpha": 40, "Beta": 40}
    objecting(opened, "a", 12)
    clock.now += 4 * 3600 - 10
    send(opened, sink, tmp_path)  # each time another process
    assert len(sink.taken) == 80
    assert state(opened)[0] == "started"
    clock.now += 20
    send(opened, sink, tmp_path)
    assert subjects(sink) == {"Alpha": 40, "Beta": 160}
    assert set(sink.counts.values()) == {1}
    assert len(sink.counts) == 200
    assert state(opened)[0] == "finished"
    with opened.read() as connection:
        found = campaigns.find(connection, "spring")
    assert found.winner == "b"
    assert found.winner_words.startswith(
        "a: 12 of 40, b: 0 of 40 unsubscribed or complained; by chance alone in 0.0"
    )


def test_where_there_is_nothing_to_decide_on_somebody_has_to_choose(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    people(opened, news, 50)
    campaigns.create(opened, "spring", "news", TWO, test=Trial(20, after=60.0))
    campaigns.start(opened, "spring")
    sink = Sink()
    send(opened, sink, tmp_path)
    objecting(opened, "b", 1)  # of five: that says nothing
    for _ in range(3):
        clock.now += 100_000
        send(opened, sink, tmp_path)
    assert len(sink.taken) == 10
    with opened.read() as connection:
        ((name, words),) = trial.undecided(connection)
    assert (name, "not known which is better" in words) == ("spring", True)
    assert campaigns.choose(opened, "spring", "a") == 40
    with pytest.raises(NotSoError, match="decided: its subject is a"):
        campaigns.choose(opened, "spring", "b")
    send(opened, sink, tmp_path)
    assert subjects(sink) == {"Alpha": 45, "Beta": 5}
    assert state(opened)[0] == "finished"
    with opened.read() as connection:
        assert trial.undecided(connection) == []


def test_who_waits_and_unsubscribes_gets_nothing_and_cancelling_ends_it_for_all(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    people(opened, news, 50)
    for name in ("spring", "summer"):
        campaigns.create(opened, name, "news", TWO, test=Trial(20))
    campaigns.start(opened, "spring")
    send(opened, Sink(), tmp_path)
    got = schema.recipient
    with opened.write() as connection:
        waiting = connection.execute(got.select().where(got.c.campaign == 1, got.c.variant == "r")).first()
        assert waiting is not None
        lists.unsubscribe(connection, 1, waiting.subscriber, "test", clock.now)
    campaigns.choose(opened, "spring", "b")
    sink = Sink()
    send(opened, sink, tmp_path)
    assert len(sink.taken) == 39
    assert numbers(opened).unsubscribed == 1
    campaigns.cancel(opened, "summer")
    assert numbers(opened, "summer").cancelled == 49


def test_a_test_that_cannot_be_one_is_refused(opened: Opened, news: int) -> None:
    people(opened, news, 4)
    for source, test, words in (
        (Source("One", "x"), Trial(20), "two subjects"),
        (TWO, Trial(1), "2 to 90 percent"),
        (TWO, Trial(20, 60.0, "opens"), "not counted in this campaign"),
        (TWO, Trial(20, 60.0, "luck"), "one of clicks, opens, objections"),
    ):
        with pytest.raises(NotSoError, match=words):
            campaigns.create(opened, "spring", "news", source, test=test)
    campaigns.create(opened, "spring", "news", TWO)  # without: half and half, at once
    with pytest.raises(NotSoError, match="draft"):
        campaigns.choose(opened, "spring", "a")
    with opened.read() as connection:
        variants = Counter(row.variant for row in connection.execute(schema.recipient.select()))
    assert variants == {"a": 2, "b": 2}


def test_what_is_said_of_a_difference_is_what_statistics_say() -> None:
    # Fisher's tea: 3 of 4 against 1 of 4 (Agresti, Categorical Data Analysis, 3.5.2).
    assert trial.chance((3, 4), (1, 4)) == pytest.approx(0.4857, abs=1e-4)
    assert trial.chance((1, 10), (11, 14)) == pytest.approx(0.002759, abs=1e-6)
    assert trial.chance((0, 5), (0, 5)) == 1
    few = trial.judge({"a": Seen(100, clicked=10), "b": Seen(100, clicked=12)}, "clicks")
    assert few.winner == "b"
    assert "not known which is better; b was ahead" in few.words
    many = trial.judge({"a": Seen(1000, clicked=100), "b": Seen(1000, clicked=200)}, "clicks")
    assert (many.winner, "b is better" in many.words) == ("b", True)
    assert trial.judge({"a": Seen(100, opened=5), "b": Seen(100, opened=5)}, "opens").winner is None
    assert trial.judge({"a": Seen(100, opened=5)}, "opens").winner is None


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_chance_is_one_whatever_the_counts(did: int, more: int, other: int, more_other: int) -> None:
    one, two = (did, did + more), (other, other + more_other)
    assert 0 <= trial.chance(one, two) <= 1
    assert trial.chance(one, two) == pytest.approx(trial.chance(two, one))
