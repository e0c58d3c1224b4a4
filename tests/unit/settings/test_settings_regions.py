"""The region decides the relay's host name and the names in DNS, so its table has to be right."""

from __future__ import annotations

import pytest

from todoku.settings import regions
from todoku.settings.regions import REGIONS


def test_the_table_is_that_of_the_sdk() -> None:
    assert len(REGIONS) == 85
    assert sum(region.realm == "oc1" for region in REGIONS.values()) == 46
    assert len({region.key for region in REGIONS.values()}) == len(REGIONS)
    assert all(region.id == name for name, region in REGIONS.items())


@pytest.mark.parametrize(
    ("region", "code"),
    [  # all seen in public DNS records and mail headers
        ("ap-osaka-1", "kix1"),
        ("us-ashburn-1", "iad1"),
        ("eu-zurich-1", "zrh1"),
        ("eu-stockholm-1", "arn1"),
        ("ca-toronto-1", "yyz1"),
        ("ap-tokyo-1", "nrt1"),
    ],
)
def test_the_codes_are_those_seen_in_dns(region: str, code: str) -> None:
    assert REGIONS[region].code == code


def test_the_host_name_is_known_in_the_commercial_realm_only() -> None:
    assert REGIONS["eu-amsterdam-1"].relay_host == "smtp.email.eu-amsterdam-1.oci.oraclecloud.com"
    for region in REGIONS.values():
        assert (region.relay_host is None) == (region.code is None) == (region.realm != "oc1")
    assert REGIONS["uk-gov-london-1"].realm_domain == "oraclegovcloud.uk"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nrt", "ap-tokyo-1"),
        ("NRT1", "ap-tokyo-1"),
        ("tokyo", "ap-tokyo-1"),
        ("Tokyo", "ap-tokyo-1"),
        ("ap-tokyo", "ap-tokyo-1"),
        ("ap_tokyo_1", "ap-tokyo-1"),
        ("ap-tokyo-2", "ap-tokyo-1"),
        ("us-asburn-1", "us-ashburn-1"),
        ("osakaa", "ap-osaka-1"),
    ],
)
def test_a_near_miss_is_recognised(written: str, meant: str) -> None:
    found = regions.suggest(written)
    assert found is not None
    assert found.id == meant


def test_something_else_is_no_near_miss() -> None:
    assert regions.suggest("moon") is None


def test_a_dkim_key_is_a_cname_where_its_target_is_a_name_that_can_exist() -> None:
    target = "{selector}.{domain}.dkim.nrt1.oracleemaildelivery.com"
    domain = "d" * (253 - len(target.format(selector="s" * 63, domain="")))
    assert regions.dkim_record_type("ap-tokyo-1", domain) == "CNAME"
    assert regions.dkim_record_type("ap-tokyo-1", f"{domain}d") == "TXT"
    assert regions.dkim_record_type("us-gov-ashburn-1", "hoge.example") == "TXT"
