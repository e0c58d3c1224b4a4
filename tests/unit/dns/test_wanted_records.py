# What a settings file needs in the DNS, and nothing that was guessed.

from __future__ import annotations

import pytest

from todoku.dns.merging import Merge
from todoku.dns.problems import DmarcProblem, NotKnownByOracle, SpfProblem
from todoku.dns.records import RecordSet, advice, all_records, dkim, records
from todoku.plan.outputs import Reference
from todoku.settings import Settings, parse
from todoku.settings.regions import REGIONS

ONE = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10", "2001:db8:10::10"]
postmaster = "alice@hoge.example"
{more}
[[domains]]
name = "hoge.example"
dmarc.reports = "{reports}"
[[domains]]
name = "fuga.example"
[relay]
region = "{region}"
{relay}
[dns]
publisher = "manual"
ttl = 600
tls_report = "tls@hoge.example"
{cloud}
"""
CLOUD = '[cloud]\ncompartment = "ocid1.compartment.oc1..aaaaaaaaexample"\n'


def settings(
    region: str = "ap-tokyo-1", reports: str = "dmarc@fuga.example", relay: str = "", cloud: str = CLOUD
) -> Settings:
    return parse(ONE.format(region=region, reports=reports, relay=relay, cloud=cloud, more=""), "todoku.toml")


def by_id(found: list[RecordSet]) -> dict[str, RecordSet]:
    return {record.id: record for record in found}


def test_everything_that_one_organisation_needs_is_there() -> None:
    found = by_id(all_records(settings()))
    assert {name: record.values for name, record in found.items()} == {
        "dns:mx.hoge.example/A": ("203.0.113.10",),
        "dns:mx.hoge.example/AAAA": ("2001:db8:10::10",),
        "dns:mx.hoge.example/TXT": ("v=spf1 -all",),
        "dns:hoge.example/MX": ("10 mx.hoge.example",),
        "dns:hoge.example/TXT": ("v=spf1 include:ap.rp.oracleemaildelivery.com ~all",),
        "dns:dkim:hoge.example/CNAME": (Reference("dkim:hoge.example", "cname"),),
        "dns:other-dkim:hoge.example/CNAME": (Reference("dkim:hoge.example", "other_cname"),),
        "dns:return-path:hoge.example/CNAME": (Reference("return-path:hoge.example", "cname"),),
        "dns:_dmarc.hoge.example/TXT": ("v=DMARC1; p=none; rua=mailto:dmarc@fuga.example",),
        "dns:hoge.example._report._dmarc.fuga.example/TXT": ("v=DMARC1",),
        "dns:_smtp._tls.hoge.example/TXT": ("v=TLSRPTv1; rua=mailto:tls@hoge.example",),
        "dns:fuga.example/MX": ("10 mx.hoge.example",),
        "dns:fuga.example/TXT": ("v=spf1 include:ap.rp.oracleemaildelivery.com ~all",),
        "dns:dkim:fuga.example/CNAME": (Reference("dkim:fuga.example", "cname"),),
        "dns:other-dkim:fuga.example/CNAME": (Reference("dkim:fuga.example", "other_cname"),),
        "dns:return-path:fuga.example/CNAME": (Reference("return-path:fuga.example", "cname"),),
        "dns:_dmarc.fuga.example/TXT": ("v=DMARC1; p=none",),
        "dns:_smtp._tls.fuga.example/TXT": ("v=TLSRPTv1; rua=mailto:tls@hoge.example",),
    }
    assert all(record.why and record.ttl == 600 for record in found.values())


def test_what_is_published_is_merged_and_the_neighbours_stay() -> None:
    there = {
        ("hoge.example", "TXT"): ("proof=1", "v=spf1 mx -all"),
        ("_dmarc.hoge.example", "TXT"): ("v=DMARC1; p=reject",),
        ("mx.hoge.example", "TXT"): ("v=spf1 a -all",),
        ("hoge.example", "MX"): ("5 mx.hoge.example",),
        ("_smtp._tls.hoge.example", "TXT"): ("v=TLSRPTv1; rua=https://reports.example",),
    }
    found = by_id(all_records(settings(), there))
    assert found["dns:hoge.example/TXT"].values == (
        "proof=1",
        "v=spf1 mx include:ap.rp.oracleemaildelivery.com -all",
    )
    assert found["dns:_dmarc.hoge.example/TXT"].values == (
        "v=DMARC1; p=reject; rua=mailto:dmarc@fuga.example",
    )
    for name, type_ in (
        ("mx.hoge.example", "TXT"),
        ("hoge.example", "MX"),
        ("_smtp._tls.hoge.example", "TXT"),
    ):
        assert found[f"dns:{name}/{type_}"].values == there[name, type_]


@pytest.mark.parametrize("kind", ["SPF", "DMARC"])
def test_a_second_record_of_one_kind_is_reported_and_nothing_is_chosen(kind: str) -> None:
    there, error = (
        ({("hoge.example", "TXT"): ("v=spf1 a -all", "v=spf1 mx -all")}, SpfProblem)
        if kind == "SPF"
        else ({("_dmarc.hoge.example", "TXT"): ("v=DMARC1; p=none", "v=DMARC1; p=reject")}, DmarcProblem)
    )
    with pytest.raises(error, match=f"2 {kind} records"):
        all_records(settings(), there)


def test_reports_to_a_stranger_are_told_and_not_published() -> None:
    mine = settings(reports="a@service.example")
    assert not any("_report" in record.id for record in all_records(mine))
    assert any(
        '"v=DMARC1" as TXT at hoge.example._report._dmarc.service.example' in told for told in advice(mine)
    )


def test_reports_within_one_organisation_need_no_agreement() -> None:
    assert not any("_report" in record.id for record in all_records(settings(reports="a@in.hoge.example")))


def test_without_a_cloud_table_the_dkim_record_is_not_guessed() -> None:
    mine = settings(cloud="")
    assert not any(record.references for record in all_records(mine))
    assert any("DKIM record of hoge.example" in told for told in advice(mine))


@pytest.mark.parametrize(
    ("region", "includes"),
    [
        ("us-ashburn-1", ["rp.oracleemaildelivery.com"]),
        ("sa-saopaulo-1", ["rp.oracleemaildelivery.com"]),
        ("ap-osaka-1", ["ap.rp.oracleemaildelivery.com"]),
        ("uk-london-1", ["eu.rp.oracleemaildelivery.com"]),
        (
            "me-dubai-1",
            ["rp.oracleemaildelivery.com", "ap.rp.oracleemaildelivery.com", "eu.rp.oracleemaildelivery.com"],
        ),
        ("eu-frankfurt-2", ["rp.email.oci.oraclecloud.eu"]),
        ("ap-chiyoda-1", ["rp.email.oci.jpsovereigncloud.jp"]),
        ("us-gov-ashburn-1", []),
    ],
)
def test_each_region_has_the_include_of_its_group_or_none_that_was_guessed(
    region: str, includes: list[str]
) -> None:
    assert list(REGIONS[region].spf_include) == includes
    assert REGIONS["af-johannesburg-1"].spf_include == REGIONS["il-jerusalem-1"].spf_include
    assert len(REGIONS["af-johannesburg-1"].spf_include) == 3


def test_a_realm_whose_include_is_not_published_is_refused_with_what_to_do() -> None:
    mine = settings("us-gov-ashburn-1", relay='host = "smtp.example.gov"')
    with pytest.raises(NotKnownByOracle, match="spf_include"):
        records(mine, mine.domains[0])


def test_outside_the_commercial_realm_dkim_is_txt_as_oracle_says() -> None:
    mine = settings("eu-frankfurt-2", relay='host = "smtp.example.eu"')
    found = dkim(mine, mine.domains[0])
    assert (found.type, found.values) == ("TXT", (Reference("dkim:hoge.example", "txt"),))


def test_a_domain_too_long_for_the_cname_target_gets_txt() -> None:
    long = ".".join(["a" * 60] * 3)
    mine = settings()
    assert dkim(mine, mine.domains[0].model_copy(update={"name": f"{long}.example"})).type == "TXT"


def test_a_host_in_a_strangers_zone_is_told_and_not_published() -> None:
    mine = parse(
        ONE.format(region="ap-tokyo-1", reports="a@hoge.example", relay="", cloud="", more="").replace(
            "mx.hoge.example", "mail.provider.example"
        ),
        "todoku.toml",
    )
    assert not any(record.name == "mail.provider.example" for record in all_records(mine))
    assert any("mail.provider.example is not within one of your domains" in told for told in advice(mine))


def test_only_an_mx_or_an_address_can_be_somebody_elses_decision() -> None:
    conflicts = {record.type for record in all_records(settings()) if record.merge is Merge.CONFLICT}
    assert conflicts == {"MX", "A", "AAAA"}
