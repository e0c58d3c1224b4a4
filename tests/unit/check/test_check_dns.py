# A zone that is in order passes; each way to break it has its finding, and no other failure. Every mutation is small,
# and one that people really make.

from __future__ import annotations

import pytest
from broken_zones import MUTATIONS, Break, P, all_silent, bogus, dmarc, gone, put, spf
from internet_for_checks import ADDRESS, DOMAIN, HOST, RELAY, Place, rules

from todoku.check import dkim, providers, topics
from todoku.check.finding import Verdict
from todoku.check.topic_names import TOPICS

OURS = ("addresses", "dns", "mx", "spf", "dmarc")


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_zone_in_order_passes_and_every_provider_takes_its_mail(place: Place) -> None:
    found = place.seen_from_outside()
    assert {finding.verdict for finding in found} == {Verdict.PASS}, found
    assert {judgement.outcome for judgement in providers.judge(found)} == {"accepted"}
    assert {finding.verdict for finding in place.seen_by_us(OURS[:4])} == {Verdict.PASS}


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mistake_has_its_finding_and_no_other(place: Place, name: str) -> None:
    change, failing, warning = MUTATIONS[name]
    change(place)
    found = place.seen_from_outside()
    assert rules(found, Verdict.FAIL) == failing, found
    assert rules(found, Verdict.WARN) == warning, found
    assert not rules(found, Verdict.UNKNOWN), found


def test_there_are_at_least_sixty_of_them() -> None:
    assert len(MUTATIONS) >= 60


# --- what concerns us, and not any domain ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "failing", "words"),
    [
        (spf("v=spf1 ~all"), {"spf.relay"}, "ap.rp.oracleemaildelivery.com is not included"),
        (
            spf("v=spf1 include:eu.rp.oracleemaildelivery.com ~all"),
            {"spf.relay"},
            "is for other regions of Oracle's",
        ),
        (spf(f"v=spf1 ~all include:{RELAY}"), {"spf.relay"}, "is not included"),
        (spf(f"v=spf1 -include:{RELAY} ~all"), {"spf.relay"}, "is not included"),
        (spf(f"v=spf1 -ip4:192.29.178.0/24 include:{RELAY} ~all"), {"spf.relay"}, "SPF says fail"),
        (spf(f"v=spf1 INCLUDE:{RELAY.upper()} ~all"), set(), ""),
        (put(DOMAIN, "MX", "10 mail.outside.example."), {"mx.record"}, "not to mx.hoge.example"),
        (put(HOST, "A", "198.51.100.80"), {"addresses.forward"}, f"not to {ADDRESS}"),
        (gone(DOMAIN, "MX"), {"mx.record"}, "neither MX record nor address"),
    ],
)
def test_what_the_relay_and_the_settings_make_necessary(
    place: Place, change: Break, failing: set[str], words: str
) -> None:
    change(place)
    found = place.seen_by_us(OURS[:4])
    assert rules(found, Verdict.FAIL) == failing, found
    assert words in " ".join(finding.seen for finding in found if finding.verdict is Verdict.FAIL)


def test_mail_that_reaches_us_through_another_record_is_a_warning(place: Place) -> None:
    put(DOMAIN, "MX", f"10 {HOST}.", "20 mail.outside.example.")(place)
    assert rules(place.seen_by_us(OURS[:4]), Verdict.WARN) == {"mx.record"}


@pytest.mark.parametrize("names", [[], ["other.hoge.example."]], ids=["none", "another"])
def test_a_reverse_name_is_advised_because_what_leaves_goes_through_the_relay(
    place: Place, names: list[str]
) -> None:
    place.others["113.0.203.in-addr.arpa"] = {("10.113.0.203.in-addr.arpa", "PTR"): names} if names else {}
    found = place.seen_by_us(("addresses",))
    assert rules(found, Verdict.WARN) == {"addresses.reverse"}
    assert providers.judge(found) == []


def test_a_policy_weaker_than_the_settings_is_told(place: Place) -> None:
    from internet_for_checks import TEXT

    from todoku.settings import parse

    dmarc("v=DMARC1; p=none; rua=mailto:postmaster@hoge.example")(place)
    strict = parse(TEXT.replace("dmarc.reports", 'dmarc.policy = "reject"\ndmarc.reports'), "todoku.toml")
    assert not rules(place.seen_by_us(("dmarc",)), Verdict.WARN)
    assert rules(place.seen_by_us(("dmarc",), strict), Verdict.WARN) == {"dmarc.policy"}


# --- bad days -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [bogus, all_silent])
def test_a_zone_that_nobody_can_ask_is_not_called_good(place: Place, change: Break) -> None:
    change(place)
    found = place.seen_from_outside()
    assert "dns.delegation" in rules(found, Verdict.FAIL), found
    if change is bogus:
        assert not rules(found, Verdict.PASS), found


def test_a_resolver_that_is_silent_makes_everything_unknown(place: Place) -> None:
    place.lookups()
    place.internet.silent |= {"192.0.2.1"}
    found = place.seen_from_outside()
    assert {finding.verdict for finding in found} == {Verdict.UNKNOWN}
    assert all(finding.advice for finding in found)


def test_a_subdomain_is_under_its_organisations_dmarc_record(place: Place) -> None:
    from todoku.check.dmarc import look
    from todoku.check.means import Dns

    found = list(look(f"news.{DOMAIN}", Dns(place.lookups())))
    assert rules(found, Verdict.PASS) >= {"dmarc.record", "dmarc.syntax"}
    assert "the record of hoge.example applies" in found[0].seen


def test_a_key_of_the_older_form_is_read() -> None:
    assert dkim.read(f"p={P}").bits == 2048
    assert dkim.read(f"v=DKIM1; n=notes here; p={P[:60]} {P[60:]};").bits == 2048


def test_every_topic_has_steps() -> None:
    assert set(topics.STEPS) == set(TOPICS)
