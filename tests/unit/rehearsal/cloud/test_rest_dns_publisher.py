"""Our publisher for Oracle's DNS service, through the official SDK, against the rehearsal's side of it."""

from __future__ import annotations

from typing import Any

import pytest
from cloud_side import Side, side_fixture  # noqa: F401
from oci.dns import models

from todoku.dns import lexicon_publisher, oci_auth
from todoku.dns.lexicon_account import Account
from todoku.dns.lexicon_publisher import LexiconPublisher
from todoku.dns.lookups import Lookups
from todoku.dns.oci_caller import Caller
from todoku.dns.oci_publisher import OciPublisher
from todoku.dns.publisher import ChangedMeanwhile, Publisher, PublisherFailed, Replacement

ZONE = "hoge.example"
LONG = "v=DKIM1; k=rsa; p=" + "A" * 400


@pytest.fixture
def publisher(side: Side) -> OciPublisher:
    details = models.CreateZoneDetails(name=ZONE, compartment_id=side.config.compartment)
    side.zones().create_zone(details)
    client = side.zones(retry_strategy=oci_auth.patience(oci_auth.sdk()))
    return OciPublisher(client, side.config.compartment, Caller(oci_auth.sdk()))


def replace(publisher: Publisher, name: str, type_: str, *after: str) -> None:
    before = publisher.look(ZONE, name, type_).records
    publisher.apply(ZONE, Replacement(name, type_, before, after, 300))


def test_every_kind_of_record_is_served_as_it_was_meant(side: Side, publisher: OciPublisher):
    target = f"s.{ZONE}.dkim.nrt1.oracleemaildelivery.com"
    wanted = {
        (ZONE, "MX"): (f"10 mx.{ZONE}",),
        (f"mx.{ZONE}", "A"): ("203.0.113.10",),
        (f"mx.{ZONE}", "AAAA"): ("2001:db8:10::10",),
        (f"s._domainkey.{ZONE}", "CNAME"): (target,),
        (f"t._domainkey.{ZONE}", "TXT"): (LONG,),
        (ZONE, "TXT"): ("proof=1", "v=spf1 include:ap.rp.oracleemaildelivery.com ~all"),
    }
    for (name, type_), values in wanted.items():
        replace(publisher, name, type_, *values)
    for (name, type_), values in wanted.items():
        assert sorted(publisher.look(ZONE, name, type_).values) == sorted(values)
    assert sorted(side.dns(ZONE, "TXT")) == sorted(value.encode() for value in wanted[ZONE, "TXT"])
    assert side.dns(f"t._domainkey.{ZONE}", "TXT") == (LONG.encode(),)
    assert side.dns(f"mx.{ZONE}", "A") == (b"203.0.113.10",)


def test_one_record_changes_and_its_neighbours_stay(side: Side, publisher: OciPublisher):
    replace(publisher, ZONE, "TXT", "proof=1", "v=spf1 -all")
    replace(publisher, ZONE, "TXT", "proof=1", "v=spf1 a -all")
    assert sorted(side.dns(ZONE, "TXT")) == [b"proof=1", b"v=spf1 a -all"]


def test_a_change_by_somebody_else_in_between_is_not_overwritten(side: Side, publisher: OciPublisher):
    before = publisher.look(ZONE, ZONE, "TXT").records
    replace(publisher, ZONE, "TXT", "theirs")
    with pytest.raises(ChangedMeanwhile):
        publisher.apply(ZONE, Replacement(ZONE, "TXT", before, ("ours",), 300))
    assert side.dns(ZONE, "TXT") == (b"theirs",)


def test_a_change_elsewhere_in_the_zone_is_no_obstacle(
    side: Side, publisher: OciPublisher, monkeypatch: pytest.MonkeyPatch
):
    # The ETag is that of the whole zone.
    inner, times = publisher._client.patch_rr_set, [0]

    def with_a_rival(zone: str, name: str, type_: str, *rest: Any, **options: Any) -> Any:
        times[0] += 1
        if times[0] == 1:
            item = models.RecordDetails(domain=f"www.{ZONE}", rtype="A", rdata="192.0.2.80", ttl=300)
            side.zones().update_rr_set(ZONE, f"www.{ZONE}", "A", models.UpdateRRSetDetails(items=[item]))
        return inner(zone, name, type_, *rest, **options)

    monkeypatch.setattr(publisher._client, "patch_rr_set", with_a_rival)
    replace(publisher, ZONE, "TXT", "ours")
    assert times[0] == 2
    assert side.dns(ZONE, "TXT") == (b"ours",)
    assert side.dns(f"www.{ZONE}", "A") == (b"192.0.2.80",)


def test_the_longest_zone_of_the_compartment_holds_a_name(side: Side, publisher: OciPublisher):
    details = models.CreateZoneDetails(name=f"sub.{ZONE}", compartment_id=side.config.compartment)
    side.zones().create_zone(details)
    assert publisher.zone_of(f"a.b.{ZONE}") == ZONE
    assert publisher.zone_of(f"a.sub.{ZONE}") == f"sub.{ZONE}"
    with pytest.raises(PublisherFailed, match="create it in Oracle's DNS service"):
        publisher.zone_of("elsewhere.example")


def test_a_zone_that_is_not_there_is_named_with_the_right_that_may_be_missing(publisher: OciPublisher):
    with pytest.raises(PublisherFailed, match=r"no zone nobody\.example.*manage dns in compartment id"):
        publisher.look("nobody.example", "nobody.example", "MX")


def test_the_zones_size_is_known_from_one_listing(publisher: OciPublisher):
    replace(publisher, ZONE, "MX", f"10 mx.{ZONE}")
    assert publisher.size(ZONE) == 3  # SOA, NS, MX


@pytest.fixture
def through_lexicon(side: Side, publisher: OciPublisher, monkeypatch: pytest.MonkeyPatch) -> LexiconPublisher:
    """dns-lexicon's own `oci` provider, pointed at our port instead of Oracle's host name."""
    made = lexicon_publisher._provider

    def provider(account: Account, zone: str, ttl: int) -> Any:
        lexicon: Any = made(account, zone, ttl)
        lexicon.endpoint = f"{side.endpoint}/20180115"
        return lexicon

    monkeypatch.setattr(lexicon_publisher, "_provider", provider)
    options = {
        "auth_config_file": str(side.config.config_file),
        "auth_profile": side.config.profile,
        "auth_region": "ap-tokyo-1",
    }
    return LexiconPublisher(Account("oci", options), 300, Lookups(()))


def test_lexicons_oci_provider_publishes_the_same(side: Side, through_lexicon: LexiconPublisher):
    spf = "v=spf1 ip4:192.0.2.0/24 include:ap.rp.oracleemaildelivery.com ~all"
    replace(through_lexicon, ZONE, "TXT", "proof=1", "v=spf1 ip4:192.0.2.0/24 ~all")
    replace(through_lexicon, ZONE, "TXT", "proof=1", spf)
    assert sorted(side.dns(ZONE, "TXT")) == [b"proof=1", spf.encode()]
    target = f"s.{ZONE}.dkim.nrt1.oracleemaildelivery.com"
    replace(through_lexicon, f"s._domainkey.{ZONE}", "CNAME", "old.oracleemaildelivery.com")
    replace(through_lexicon, f"s._domainkey.{ZONE}", "CNAME", target)
    assert through_lexicon.look(ZONE, f"s._domainkey.{ZONE}", "CNAME").values == (target,)
    replace(through_lexicon, ZONE, "MX", f"10 mx.{ZONE}")
    assert through_lexicon.look(ZONE, ZONE, "MX").values == (f"10 mx.{ZONE}",)
    replace(through_lexicon, f"t._domainkey.{ZONE}", "TXT", LONG)
    assert side.dns(f"t._domainkey.{ZONE}", "TXT") == (LONG.encode(),)


def test_a_storm_of_429_is_sat_out(side: Side, publisher: OciPublisher):
    side.switch(rest={"status": 429, "count": 2})
    replace(publisher, ZONE, "MX", f"10 mx.{ZONE}")
    assert publisher.look(ZONE, ZONE, "MX").values == (f"10 mx.{ZONE}",)


@pytest.mark.parametrize("cut", ["before", "after"])
def test_an_answer_that_was_lost_makes_no_second_record_and_no_false_alarm(
    side: Side, publisher: OciPublisher, cut: str
):
    replace(publisher, ZONE, "TXT", "proof=1", "v=spf1 -all")
    side.switch(rest={"cut": cut, "operation": "patch_rr_set", "count": 1})
    replace(publisher, ZONE, "TXT", "proof=1", "v=spf1 a -all")
    assert sorted(side.dns(ZONE, "TXT")) == [b"proof=1", b"v=spf1 a -all"]
