# A service must never be started before its files are there, and two runs must not differ in their order.

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_resources import Daemon, TextFile, items

from todoku.plan.order import PlanError, needs_of, ordered


def ids(some):
    return [item.resource.id for item in some]


def test_each_resource_comes_after_its_needs_and_otherwise_as_given(tmp_path):
    some = items(
        tmp_path,
        TextFile("c", after={"file:z"}),
        TextFile("b"),
        TextFile("z"),
        TextFile("a"),
    )

    assert ids(ordered(some)) == ["file:b", "file:z", "file:c", "file:a"]


def test_what_is_watched_comes_first_even_when_it_is_not_listed_as_a_need(tmp_path):
    some = items(tmp_path, Daemon("mail", {"file:main.cf"}), TextFile("main.cf"))

    assert ids(ordered(some)) == ["file:main.cf", "service:mail"]


def test_a_circle_is_named(tmp_path):
    some = items(
        tmp_path,
        TextFile("aside"),
        TextFile("leads-in", after={"file:b"}),
        TextFile("a", after={"file:c"}),
        TextFile("b", after={"file:a"}),
        TextFile("c", after={"file:b", "file:aside"}),
    )

    with pytest.raises(PlanError, match=r"circle: file:b -> file:a -> file:c -> file:b$"):
        ordered(some)


def test_a_resource_that_needs_itself_is_a_circle(tmp_path):
    with pytest.raises(PlanError, match=r"circle: file:a -> file:a$"):
        ordered(items(tmp_path, TextFile("a", after={"file:a"})))


def test_an_unknown_need_is_named_with_the_one_who_needs_it(tmp_path):
    with pytest.raises(PlanError, match=r"service:mail needs file:mian.cf, which no resource provides"):
        ordered(items(tmp_path, TextFile("main.cf"), Daemon("mail", {"file:mian.cf"})))


def test_an_id_may_be_used_only_once(tmp_path):
    with pytest.raises(PlanError, match="more than one resource is called file:a;"):
        ordered(items(tmp_path, TextFile("a"), TextFile("a", "other")))


def test_what_earlier_stages_put_in_place_counts_as_met(tmp_path):
    some = items(tmp_path, TextFile("main.cf", after={"package:postfix"}))

    assert ids(ordered(some, {"package:postfix"})) == ["file:main.cf"]


@st.composite
def graphs(draw):
    """Needs without circles among up to 30 files, given in any order."""
    count = draw(st.integers(1, 30))
    files = [TextFile("0")]
    for n in range(1, count):
        needs = draw(st.sets(st.integers(0, n - 1), max_size=4))
        files.append(TextFile(str(n), after=frozenset(f"file:{m}" for m in needs)))
    return draw(st.permutations(files))


@given(graphs())
def test_any_graph_without_circles_is_ordered_completely_and_always_alike(files):
    some = items(None, *files)
    order = ordered(some)

    assert sorted(ids(order)) == sorted(ids(some))
    for place, item in enumerate(order):
        assert needs_of(item) <= set(ids(order[:place]))
    assert ids(ordered(some)) == ids(order)
