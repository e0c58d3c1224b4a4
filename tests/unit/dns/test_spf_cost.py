# A record that needs too many look-ups fails silently: receivers answer permerror, and the owner learns of it
# from mail that did not arrive. Our count is held against pyspf, which receivers use.

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import spf as pyspf
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.dns import spf_cost
from todoku.dns.problems import SpfProblem

Zone = Mapping[tuple[str, str], Sequence[str]]


def resolver(zone: Zone) -> spf_cost.Resolve:
    return lambda name, type_: zone.get((name, type_), ())


def test_every_kind_of_term_that_asks_is_counted_also_inside_includes() -> None:
    zone: Zone = {
        ("inner.example", "TXT"): ["hello", "v=spf1 a mx ip4:192.0.2.1 redirect=end.example"],
        ("end.example", "TXT"): ["v=spf1 exists:%{i}.example ptr -all"],
        ("inner.example", "A"): ["192.0.2.1"],
        ("inner.example", "MX"): ["10 mx.inner.example"],
        ("mx.inner.example", "A"): ["192.0.2.2"],
    }
    cost = spf_cost.count("v=spf1 ip6:::1 include:inner.example -all a", "hoge.example", resolver(zone))
    assert (cost.lookups, cost.void, cost.faults) == (6, 0, ())
    assert cost.by_term() == {"include:inner.example": (6, 0)}


def test_an_excess_is_refused_with_the_list_of_who_costs_what() -> None:
    zone: Zone = {
        ("big.example", "TXT"): ["v=spf1 " + "a:x.example " * 9 + "-all"],
        ("x.example", "A"): ["::"],
    }
    spf_cost.require_affordable("v=spf1 include:big.example -all", "hoge.example", resolver(zone))
    with pytest.raises(SpfProblem) as refused:
        spf_cost.require_affordable(
            "v=spf1 include:big.example a:x.example -all", "hoge.example", resolver(zone)
        )
    said = str(refused.value)
    assert "11 look-ups (at most 10)" in said
    assert "include:big.example: 10; a:x.example: 1" in said


def test_more_than_two_look_ups_that_find_nothing_are_refused() -> None:
    spf_cost.require_affordable("v=spf1 a mx -all", "hoge.example", resolver({}))
    with pytest.raises(SpfProblem, match=r"3 of them finding nothing \(at most 2\)"):
        spf_cost.require_affordable("v=spf1 a mx a:gone.example -all", "hoge.example", resolver({}))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "has no SPF record"),
        (["v=spf1 -all", "v=spf1 a -all"], "has 2 SPF records"),
        (["v=spf1 include:hoge.example -all"], "circle"),
        (["v=spf1 nonsense -all"], "nonsense"),
    ],
)
def test_an_include_that_does_not_work_is_named(texts: list[str], said: str) -> None:
    zone: Zone = {
        ("a.example", "TXT"): texts,
        ("hoge.example", "TXT"): ["v=spf1 include:a.example -all"],
    }
    with pytest.raises(SpfProblem, match=said):
        spf_cost.require_affordable("v=spf1 include:a.example -all", "hoge.example", resolver(zone))


def test_a_resolver_that_does_not_answer_is_not_taken_for_an_empty_answer() -> None:
    def silent(name: str, type_: str) -> Sequence[str]:
        raise LookupError(f"{name} {type_}")

    with pytest.raises(LookupError):
        spf_cost.count("v=spf1 a -all", "hoge.example", silent)


_NAMES = [f"n{number}.example" for number in range(6)]
_TERM = st.one_of(
    st.sampled_from(["a", "mx", "ip4:198.51.100.1", "exists:gone.example"]),
    st.sampled_from(_NAMES).map("a:{}".format),
    st.sampled_from(_NAMES).map("mx:{}".format),
)


@st.composite
def _zones(draw: st.DrawFn) -> dict[tuple[str, str], list[str]]:
    zone: dict[tuple[str, str], list[str]] = {}
    for number, name in enumerate(_NAMES):
        # Includes lead upwards only, so there is no circle.
        terms = draw(st.lists(_TERM, max_size=4))
        terms += (
            draw(st.lists(st.sampled_from(_NAMES[number + 1 :]).map("include:{}".format), max_size=2))
            if (number < len(_NAMES) - 1)
            else []
        )
        zone[name, "TXT"] = [" ".join(["v=spf1", *terms, "-all"])]
        if draw(st.booleans()):
            zone[name, "A"] = ["192.0.2.1"]
        if draw(st.booleans()):
            zone[name, "MX"] = [f"10 {_NAMES[-1]}"]
    return zone


@settings(deadline=None, max_examples=150)
@given(_zones())
def test_the_verdict_is_that_of_pyspf(zone: dict[tuple[str, str], list[str]]) -> None:
    domain = _NAMES[0]
    record = zone[domain, "TXT"][0]
    cost = spf_cost.count(record, domain, resolver(zone))
    result = _pyspf(zone, domain)
    if result.startswith("permerror"):
        assert cost.too_much, (record, result)
    else:
        # pyspf remembers names that it found, so it can count fewer void ones, never more.
        assert cost.lookups <= spf_cost.MOST_LOOKUPS, (record, result)


class _Query(pyspf.query):  # type: ignore[misc]
    """pyspf on a zone of ours; `dns` is the one place where it asks."""

    zone: dict[tuple[str, str], list[str]]

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[object]:
        found = self.zone.get((name.lower(), qtype), [])
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > pyspf.MAX_VOID_LOOKUPS:
                raise pyspf.PermError("void")
        if qtype == "TXT":
            return [(text.encode(),) for text in found]
        if qtype == "MX":
            return [(10, value.split()[1]) for value in found]
        return list(found)


def _pyspf(zone: dict[tuple[str, str], list[str]], domain: str) -> str:
    query = _Query(i="203.0.113.200", s=f"a@{domain}", h=domain)
    query.zone = zone
    result, _, text = query.check()
    return f"{result} {text}"
