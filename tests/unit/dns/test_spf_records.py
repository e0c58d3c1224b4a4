# A merged SPF record must keep everything that made mail pass before: people lose their newsletter service to
# tools that write the record anew.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.dns import spf
from todoku.dns.problems import SpfProblem

RELAY = "v=spf1 include:ap.rp.oracleemaildelivery.com ~all"


def test_without_a_record_the_wanted_one_is_published() -> None:
    assert spf.merge(None, RELAY) == RELAY


def test_the_relay_comes_before_all_and_everything_else_stays() -> None:
    there = "v=spf1 a mx:mail.hoge.example ip4:192.0.2.0/24  ?include:news.example -all exp=why.%{d}"
    assert spf.merge(there, RELAY) == (
        "v=spf1 a mx:mail.hoge.example ip4:192.0.2.0/24 ?include:news.example "
        "include:ap.rp.oracleemaildelivery.com -all exp=why.%{d}"
    )


def test_a_record_that_has_the_relay_stays_letter_by_letter() -> None:
    there = "v=spf1  INCLUDE:AP.rp.oracleemaildelivery.com.  -all"
    assert spf.merge(there, RELAY) == there


def test_what_is_said_more_than_once_is_found() -> None:
    there = "v=spf1 a a:hoge.example include:x.example ~INCLUDE:X.example. a/24 mx A mx a -all"
    assert spf.repeated(there) == ("~INCLUDE:X.example.", "A", "mx", "a")
    assert spf.repeated("v=spf1 a a:hoge.example a/24 mx -all") == ()
    many = spf.repeated("v=spf1 " + "a " * 30_000)
    assert many == ("a",)


def test_an_include_after_all_does_not_count_because_nobody_gets_there() -> None:
    there = "v=spf1 -all include:ap.rp.oracleemaildelivery.com"
    assert spf.merge(there, RELAY).startswith("v=spf1 include:ap.rp.oracleemaildelivery.com -all")


def test_a_redirect_stays_the_last_word() -> None:
    merged = spf.merge("v=spf1 redirect=_spf.hoge.example", RELAY)
    assert merged == "v=spf1 include:ap.rp.oracleemaildelivery.com redirect=_spf.hoge.example"


def test_a_relay_that_must_not_pass_is_a_contradiction_and_not_overruled() -> None:
    with pytest.raises(SpfProblem, match=r"~include:ap\.rp"):
        spf.merge("v=spf1 ~include:ap.rp.oracleemaildelivery.com -all", RELAY)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("v=spf1 ipv4:192.0.2.1 -all", "no such mechanism"),
        ("v=spf1 ip4:192.0.2.300 -all", "IPv4"),
        ("v=spf1 ip6:192.0.2.1 -all", "IPv6"),
        ("v=spf1 a:mail.hoge.example/33 -all", "too large"),
        ("v=spf1 include -all", "domain name"),
        ("v=spf1 include:localhost -all", "domain name"),
        ("v=spf1 include:hoge.example, -all", "domain name"),
        ("v=spf1 -all:everything", "stands alone"),
        ("v=spf1 redirect=a.example redirect=b.example", "more than once"),
        ("v=spf1 exists:%{q}.hoge.example", "domain name"),
        ("v=spf10 -all", "not an SPF record"),
    ],
)
def test_what_receivers_refuse_is_refused_with_the_term(record: str, said: str) -> None:
    with pytest.raises(SpfProblem, match=said):
        spf.parse(record)


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1",
        "V=SPF1 A/24//64 MX//48 ptr -ALL",
        "v=spf1 exists:%{ir}.%{v}._spf.%{d2} a:%{o} ?ip6:2001:db8::/32 +all",
        "v=spf1 mx/28 include:_spf.xn--18j4d.example. unknown-modifier=%{i}%%text -all",
        "v=spf1 ip4:192.0.2.1 redirect=_spf.hoge.example",
    ],
)
def test_what_the_grammar_allows_is_read_and_written_back(record: str) -> None:
    assert str(spf.parse(record)).split()[1:] == record.split()[1:]


_TERMS = st.sampled_from(
    [
        "a",
        "mx",
        "-ptr",
        "~a:hoge.example/24",
        "ip4:192.0.2.1",
        "?ip6:2001:db8::/32",
        "include:a.example",
        "exists:%{i}.hoge.example",
        "all",
        "-all",
        "redirect=b.example",
        "x-note=1",
        "exp=c.example",
        "include:ap.rp.oracleemaildelivery.com",
    ]
)


def _can_be_read(record: str) -> bool:
    try:
        spf.parse(record)
    except SpfProblem:
        return False
    return True


_RECORDS = st.lists(_TERMS, max_size=8).map(lambda terms: " ".join(["v=spf1", *terms])).filter(_can_be_read)


@given(_RECORDS)
def test_merging_loses_no_term_and_merging_again_changes_nothing(record: str) -> None:
    merged = spf.merge(record, RELAY)
    left = iter(merged.split()[1:])
    assert all(term in left for term in record.split()[1:])  # in their order
    assert "include:ap.rp.oracleemaildelivery.com" in merged
    assert spf.merge(merged, RELAY) == merged


@given(st.text(max_size=120) | st.text(max_size=120).map(lambda text: f"v=spf1 {text}"))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        spf.merge(text, RELAY)
    except SpfProblem as problem:
        assert str(problem).isprintable()


def test_a_long_hostile_term_is_refused_at_once() -> None:
    with pytest.raises(SpfProblem):
        spf.parse("v=spf1 include:" + "a-" * 30_000 + "%")
