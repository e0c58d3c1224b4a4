# A domain that was protected must not become less so because a tool came by (RFC 9989).

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.dns import dmarc
from todoku.dns.problems import DmarcProblem

WANTED = "v=DMARC1; p=none; rua=mailto:reports@hoge.example"
_STRICT = {policy: number for number, policy in enumerate(dmarc.POLICIES)}


def test_without_a_record_the_wanted_one_is_published() -> None:
    assert dmarc.merge(None, WANTED) == WANTED


def test_a_stricter_policy_stays_and_a_milder_one_is_raised() -> None:
    assert dmarc.merge("v=DMARC1; p=reject", "v=DMARC1; p=quarantine") == "v=DMARC1; p=reject"
    assert dmarc.merge("v=DMARC1; p=none; sp=none", "v=DMARC1; p=quarantine") == (
        "v=DMARC1; p=quarantine; sp=none"
    )


def test_report_addresses_are_added_to_those_that_are_there() -> None:
    there = "v=DMARC1; p=none; rua=mailto:agg@service.example!10m; adkim=s; x-note=kept"
    assert dmarc.merge(there, WANTED) == (
        "v=DMARC1; p=none; rua=mailto:agg@service.example!10m,mailto:reports@hoge.example; adkim=s; x-note=kept"
    )


def test_a_record_that_says_it_already_stays_letter_by_letter() -> None:
    there = "v=DMARC1;p=reject;pct=100 ; rua=mailto:REPORTS@hoge.example"
    assert dmarc.merge(there, WANTED) == there


def test_tags_that_the_standard_dropped_go_when_the_record_is_written_anew() -> None:
    there = "v=DMARC1; p=none; pct=50; rf=afrf; ri=3600; fo=1"
    assert dmarc.merge(there, "v=DMARC1; p=reject") == "v=DMARC1; p=reject; fo=1"


def test_a_test_mode_of_the_old_kind_is_kept_in_the_new_words() -> None:
    assert dmarc.merge("v=DMARC1; p=reject; pct=0", WANTED) == (
        "v=DMARC1; p=reject; rua=mailto:reports@hoge.example; t=y"
    )


def test_a_missing_policy_is_written_out() -> None:
    assert dmarc.merge("v=DMARC1; rua=mailto:reports@hoge.example", WANTED) == WANTED


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("v=dmarc1; p=none", "begin with"),
        ("p=none; v=DMARC1", "begin with"),
        ("v=DMARC1; p=none; nonsense", "TAG=VALUE"),
        ("v=DMARC1; p=none; P=reject", "twice"),
    ],
)
def test_what_receivers_ignore_is_refused_in_words(record: str, said: str) -> None:
    with pytest.raises(DmarcProblem, match=said):
        dmarc.parse(record)


_TAGS = st.lists(
    st.sampled_from(
        [
            "p=none",
            "p=quarantine",
            "p=REJECT",
            "p=oops",
            "sp=reject",
            "pct=0",
            "pct=20",
            "t=n",
            "adkim=s",
            "rua=mailto:a@b.example",
            "rua=",
            "rf=afrf",
            "ri=1",
            "fo=1:d",
            "custom=hello world",
        ]
    ),
    max_size=6,
    unique_by=lambda tag: tag.partition("=")[0],
)


@given(_TAGS, st.sampled_from(dmarc.POLICIES))
def test_merging_never_weakens_loses_nothing_and_ends(tags: list[str], policy: str) -> None:
    there = "; ".join(["v=DMARC1", *tags])
    wanted = f"v=DMARC1; p={policy}; rua=mailto:reports@hoge.example"
    merged = dmarc.merge(there, wanted)
    before, after = dmarc.parse(there), dmarc.parse(merged)
    strictness = _STRICT.get((before.get("p") or "none").lower(), 0)
    assert _STRICT[(after.get("p") or "").lower()] == max(strictness, _STRICT[policy])
    assert "mailto:reports@hoge.example" in (after.get("rua") or "")
    for tag, value in before.tags:
        if tag not in ("p", "rua", "pct", "rf", "ri"):
            assert after.get(tag) == value
    assert dmarc.merge(merged, wanted) == merged


@given(st.text(max_size=120) | st.text(max_size=120).map(lambda text: f"v=DMARC1; {text}"))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        dmarc.merge(text, WANTED)
    except DmarcProblem as problem:
        assert str(problem).isprintable()
