"""The official SDK drives the DNS service: what it is told is in the world's DNS when it answers."""

from __future__ import annotations

from typing import Any

import oci
import pytest
from cloud_side import Side, side_fixture  # noqa: F401
from oci.dns import models

ZONE = "hoge.example"


def make_zone(side: Side, name: str = ZONE) -> Any:
    details = models.CreateZoneDetails(name=name, compartment_id=side.config.compartment)
    return side.zones().create_zone(details).data


def put(side: Side, domain: str, kind: str, *data: str, ttl: int = 300, **options: Any) -> Any:
    items = [models.RecordDetails(domain=domain, rtype=kind, rdata=value, ttl=ttl) for value in data]
    return side.zones().update_rr_set(ZONE, domain, kind, models.UpdateRRSetDetails(items=items), **options)


def refused(call: Any, status: int, code: str, words: str = "") -> None:
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call()
    assert (caught.value.status, caught.value.code) == (status, code), caught.value.message
    assert words in caught.value.message


def test_a_zone_is_made_found_by_name_and_id_and_served(side: Side):
    zone = make_zone(side)
    assert zone.lifecycle_state == "CREATING"
    client = side.zones()
    waited = oci.wait_until(
        client,
        client.get_zone(ZONE),
        "lifecycle_state",
        "ACTIVE",
        max_interval_seconds=0.1,
        max_wait_seconds=5,
    )
    assert waited.data.id == zone.id == client.get_zone(zone.id).data.id
    servers = [server.hostname for server in zone.nameservers]
    assert len(servers) == 4
    assert sorted(side.dns(ZONE, "NS")) == sorted(f"{server}.".encode() for server in servers)
    assert side.dns(servers[0], "A") == (b"192.0.2.53",)
    assert [z.name for z in client.list_zones(side.config.compartment, name=ZONE, scope="GLOBAL").data] == [
        ZONE
    ]
    refused(lambda: make_zone(side), 409, "Conflict", "exists")
    side.switch(claimed=["theirs.example"])
    refused(lambda: make_zone(side, "theirs.example"), 409, "Conflict", "exists")
    client.delete_zone(ZONE)
    assert side.dns(f"mail.{ZONE}", "A") == ()


def test_a_record_set_is_replaced_read_and_deleted(side: Side):
    make_zone(side)
    done = put(side, f"s1._domainkey.{ZONE}", "CNAME", "S1.hoge.example.dkim.nrt1.oracleemaildelivery.com.")
    assert [item.rdata for item in done.data.items] == ["S1.hoge.example.dkim.nrt1.oracleemaildelivery.com."]
    assert side.dns(f"s1._domainkey.{ZONE}", "CNAME")
    put(side, ZONE, "MX", "10 mx.hoge.example.", "20 mx2.hoge.example.")
    assert set(side.dns(ZONE, "MX")) == {b"10 mx.hoge.example.", b"20 mx2.hoge.example."}
    put(side, ZONE, "MX", "10 mx.hoge.example.")
    assert side.dns(ZONE, "MX") == (b"10 mx.hoge.example.",)
    client = side.zones()
    found = client.get_rr_set(ZONE, ZONE, "MX").data.items
    assert [(item.domain, item.rtype, item.ttl, item.is_protected) for item in found] == [
        (ZONE, "MX", 300, False)
    ]
    client.delete_rr_set(ZONE, ZONE, "MX")
    assert side.dns(ZONE, "MX") == ()
    assert client.get_rr_set(ZONE, ZONE, "MX").data.items == []


def test_txt_is_in_presentation_format(side: Side):
    make_zone(side)
    put(side, ZONE, "TXT", '"v=spf1 include:ap.rp.oracleemaildelivery.com ~all"')
    assert side.dns(ZONE, "TXT") == (b"v=spf1 include:ap.rp.oracleemaildelivery.com ~all",)
    # Without quotes each word is a string of its own, and receivers join them without a space.
    put(side, ZONE, "TXT", "v=spf1 -all")
    assert side.dns(ZONE, "TXT") == (b"v=spf1-all",)
    refused(lambda: put(side, ZONE, "TXT", f'"{"a" * 256}"'), 400, "InvalidParameter", "rdata")
    put(side, ZONE, "TXT", f'"{"a" * 255}" "b"')
    assert side.dns(ZONE, "TXT") == (b"a" * 255 + b"b",)


def test_patches_are_all_or_nothing_and_can_be_repeated(side: Side):
    make_zone(side)
    client, name = side.zones(), f"www.{ZONE}"

    def operation(kind: str, data: str | None, operation: str) -> Any:
        return models.RecordOperation(domain=name, rtype=kind, rdata=data, ttl=60, operation=operation)

    def patch(*items: Any) -> Any:
        return client.patch_rr_set(ZONE, name, "A", models.PatchRRSetDetails(items=list(items)))

    for _ in range(2):
        patch(operation("A", "192.0.2.1", "ADD"))
    assert side.dns(name, "A") == (b"192.0.2.1",)
    refused(
        lambda: patch(operation("A", "192.0.2.2", "ADD"), operation("A", "192.0.2.9", "REQUIRE")),
        409,
        "Conflict",
    )
    refused(
        lambda: patch(operation("A", "192.0.2.2", "ADD"), operation("A", "192.0.2.1", "PROHIBIT")),
        409,
        "Conflict",
    )
    assert side.dns(name, "A") == (b"192.0.2.1",)
    patch(operation("A", "192.0.2.1", "REMOVE"), operation("A", "192.0.2.2", "ADD"))
    assert side.dns(name, "A") == (b"192.0.2.2",)
    zone_patch = models.PatchZoneRecordsDetails(items=[operation("A", None, "REMOVE")])
    client.patch_zone_records(ZONE, zone_patch)
    assert side.dns(name, "A") == ()
    more = models.PatchDomainRecordsDetails(items=[operation("AAAA", "2001:db8::1", "ADD")])
    client.patch_domain_records(ZONE, name, more)
    assert side.dns(name, "AAAA") == (b"2001:db8::1",)
    assert [r.rtype for r in client.get_domain_records(ZONE, name).data.items] == ["AAAA"]
    client.delete_domain_records(ZONE, name)
    assert client.get_domain_records(ZONE, name).data.items == []


def test_what_cannot_be_together_or_is_no_record_is_refused(side: Side):
    make_zone(side)
    put(side, f"www.{ZONE}", "A", "192.0.2.1")
    refused(
        lambda: put(side, f"www.{ZONE}", "CNAME", "x.example."),
        400,
        "InvalidParameter",
        "CNAME cannot be beside",
    )
    refused(lambda: put(side, ZONE, "CNAME", "x.example."), 400, "InvalidParameter", "CNAME cannot be beside")
    refused(lambda: put(side, f"a.{ZONE}", "A", "not an address"), 400, "InvalidParameter", "rdata")
    refused(
        lambda: put(side, "elsewhere.example", "A", "192.0.2.1"), 400, "InvalidParameter", "does not lie in"
    )
    refused(lambda: put(side, ZONE, "NS", "ns.example."), 400, "InvalidParameter", "protected")
    refused(lambda: put(side, ZONE, "MX", "10 mx.hoge.example.", ttl=-1), 400, "InvalidParameter", "ttl")


def test_a_zone_is_replaced_as_a_whole_and_listed_in_pages(side: Side):
    make_zone(side)
    items = [
        models.RecordDetails(domain=f"h{number}.{ZONE}", rtype="A", rdata=f"192.0.2.{number}", ttl=60)
        for number in range(1, 8)
    ]
    client = side.zones()
    client.update_zone_records(ZONE, models.UpdateZoneRecordsDetails(items=items))
    first = client.get_zone_records(ZONE, limit=5, rtype="A")
    assert len(first.data.items) == 5
    second = client.get_zone_records(ZONE, limit=5, rtype="A", page=first.next_page)
    names = [item.domain for item in [*first.data.items, *second.data.items]]
    assert names == [f"h{number}.{ZONE}" for number in range(1, 8)]
    client.update_zone_records(ZONE, models.UpdateZoneRecordsDetails(items=items[:1]))
    kinds = [item.rtype for item in client.get_zone_records(ZONE).data.items]
    assert sorted(kinds) == ["A", "NS", "NS", "NS", "NS", "SOA"]
    assert b"h1.hoge.example. 60 IN A 192.0.2.1" in client.get_zone_content(ZONE).data.content
    serial = client.get_zone(ZONE).data.serial
    client.update_zone_records(ZONE, models.UpdateZoneRecordsDetails(items=items[:1]))
    assert client.get_zone(ZONE).data.serial == serial


def test_if_match_protects_a_zone_from_lost_updates(side: Side):
    make_zone(side)
    etag = side.zones().get_zone_records(ZONE).headers["etag"]
    put(side, f"a.{ZONE}", "A", "192.0.2.1", if_match=etag)
    refused(lambda: put(side, f"a.{ZONE}", "A", "192.0.2.2", if_match=etag), 412, "NoEtagMatch")
    assert side.dns(f"a.{ZONE}", "A") == (b"192.0.2.1",)
