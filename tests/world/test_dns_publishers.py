# Records are published to real name servers: Knot by dynamic update, PowerDNS through dns-lexicon and its API, Oracle's
# DNS service through its SDK and through dns-lexicon (the world's simulator of it, whose zone a real Knot serves).
# What goes wrong with single-record providers is what people lose zones by: a CNAME target with the zone
# appended, a second SPF record, a neighbour's TXT record gone.

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import name_servers
import oci
import pytest
from clouds import Tenancy
from conftest import World, wait
from name_servers import ADDRESS, API, to_port

from todoku.dns import spf_cost
from todoku.dns.client import Names
from todoku.dns.guard import FewChanges
from todoku.dns.lexicon_account import Account
from todoku.dns.lexicon_publisher import LexiconPublisher
from todoku.dns.lookups import Lookups, Server, spf_resolve
from todoku.dns.merging import Merge
from todoku.dns.oci_caller import Caller
from todoku.dns.oci_publisher import OciPublisher
from todoku.dns.publisher import ChangedMeanwhile, Publisher, PublisherFailed, Replacement
from todoku.dns.records import RecordSet
from todoku.dns.resources import RecordSetResource
from todoku.dns.rfc2136 import Key, Rfc2136
from todoku.plan.apply import apply
from todoku.plan.outputs import Outputs, Reference
from todoku.plan.plan import make
from todoku.plan.resource import Item
from todoku.settings.outside import Dns

ZONE = "fuga.example"
PORT = 5354
PROOF = "google-site-verification=0123456789abcdef"
MERGED = "v=spf1 ip4:192.0.2.0/24 include:ap.rp.oracleemaildelivery.com -all"
SPF_HERE = "v=spf1 ip4:192.0.2.0/24 -all"
BESIDE = Server(ADDRESS, ADDRESS, PORT)
LONG = "v=DKIM1; k=rsa; p=" + "A" * 400
ZONE_FILE = f"""\
$ORIGIN {ZONE}.
$TTL 300
@ SOA ns admin 1 3600 600 86400 60
@ NS ns
ns A {ADDRESS}
@ TXT "{PROOF}"
@ TXT "{SPF_HERE}"
www A 192.0.2.80
"""


@dataclass(frozen=True)
class Served:
    """A publisher with a real server behind it."""

    names: Names
    server: Server = BESIDE
    size: int = 5  # record sets: SOA, NS, TXT, and the addresses of ns and www

    @property
    def publisher(self) -> Publisher:
        return self.names.publisher

    def values(self, name: str, type_: str) -> list[str]:
        """What the server itself answers over the wire."""
        return sorted(self.names.lookups.ask(self.server, name, type_).values)

    def replace(self, name: str, type_: str, *after: str) -> None:
        before = self.publisher.look(ZONE, name, type_).records
        self.publisher.apply(ZONE, Replacement(name, type_, before, after, 300))

    def items(self, *records: RecordSet, force: bool = False) -> list[Item]:
        resources = tuple(RecordSetResource(record, force=force) for record in records)
        return [Item(FewChanges(resources, force), self.names), *(Item(r, self.names) for r in resources)]


@pytest.fixture
def key() -> Key:
    return Key("todoku", "hmac-sha256", secrets.token_bytes(32))


@pytest.fixture
def knot(tmp_path: Path, key: Key) -> Iterator[Served]:
    """Knot with one zone, which takes signed updates."""
    with name_servers.knot(tmp_path, key, {ZONE: ZONE_FILE}, port=PORT):
        lookups = Lookups((ADDRESS,), send=to_port(PORT))
        yield Served(Names(_by_update(key, lookups), lookups, Outputs(), (ZONE,), patience=5))


def _by_update(key: Key, lookups: Lookups) -> Rfc2136:
    return Rfc2136(BESIDE, key, lookups)


@pytest.fixture
def powerdns(tmp_path: Path) -> Iterator[Served]:
    """PowerDNS with one zone, behind dns-lexicon."""
    token = secrets.token_urlsafe(24)
    with name_servers.powerdns(tmp_path, token, ZONE, ZONE_FILE, port=PORT):
        account = _account(tmp_path, "powerdns", f"auth_token={token}\npdns_server=http://127.0.0.1:{API}\n")
        lookups = Lookups((ADDRESS,), send=to_port(PORT))
        yield Served(Names(LexiconPublisher(account, 300, lookups), lookups, Outputs(), (ZONE,), patience=5))


def _account(folder: Path, provider: str, options: str) -> Account:
    credential = folder / "credential"
    credential.touch(0o600)
    credential.write_text(options)
    return Account.of(Dns(publisher="lexicon", provider=provider, credential_file=credential))


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    """Oracle's DNS service with a zone of its own for these tests."""
    tenancy = Tenancy(world)
    models = oci.dns.models
    made = models.CreateZoneDetails(name=ZONE, compartment_id=tenancy.compartment, zone_type="PRIMARY")
    tenancy.dns.create_zone(made)
    texts = [f'"{PROOF}"', f'"{SPF_HERE}"']
    for name, type_, values in ((ZONE, "TXT", texts), (f"www.{ZONE}", "A", ["192.0.2.80"])):
        items = [models.RecordDetails(domain=name, rtype=type_, rdata=value, ttl=300) for value in values]
        tenancy.dns.update_rr_set(ZONE, name, type_, models.UpdateRRSetDetails(items=items))
    yield tenancy
    tenancy.dns.delete_zone(ZONE)

    def gone() -> bool:
        return all(zone.name != ZONE for zone in tenancy.dns.list_zones(tenancy.compartment).data)

    wait(gone, "the zone to be deleted")


@pytest.fixture
def oracle(tenancy: Tenancy) -> Served:
    """Oracle's DNS service, asked through its own SDK."""
    return _world_serves(OciPublisher(tenancy.dns, tenancy.compartment, Caller(oci, tenancy.config)))


@pytest.fixture
def oracle_by_lexicon(tenancy: Tenancy, tmp_path: Path) -> Served:
    """Oracle's DNS service, asked through dns-lexicon's provider `oci`, with the options that its page names."""
    described = tenancy.world.described["cloud"]
    options = f"auth_config_file={described['config_file']}\nauth_profile={described['profile']}\n"
    options += f"auth_region={tenancy.config['region']}\n"  # else it asks us-ashburn-1
    return _world_serves(LexiconPublisher(_account(tmp_path, "oci", options), 300, Lookups.of_system()))


def _world_serves(publisher: Publisher) -> Served:
    lookups = Lookups.of_system()
    names = Names(publisher, lookups, Outputs(), (ZONE,), patience=5)
    return Served(names, Server("the world's", name_servers.WORLD), size=4)  # "ns" lies in another zone


# Slow: dns-lexicon asks for each record by itself, and every answer is signed; a unit test has the same in short.
BY_LEXICON = pytest.param("oracle_by_lexicon", marks=pytest.mark.slow)


@pytest.fixture(params=["knot", "powerdns", "oracle", BY_LEXICON])
def served(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    return found


SPF = RecordSet(ZONE, "TXT", ("v=spf1 include:ap.rp.oracleemaildelivery.com ~all",), 300, "SPF", Merge.SPF)
DMARC = RecordSet(f"_dmarc.{ZONE}", "TXT", ("v=DMARC1; p=none",), 300, "DMARC", Merge.DMARC)
MX = RecordSet(ZONE, "MX", (f"10 mx.{ZONE}",), 300, "mail")
HOST = RecordSet(f"mx.{ZONE}", "A", ("203.0.113.10",), 300, "host")


def test_every_kind_of_record_arrives_as_it_was_meant(served: Served) -> None:
    target = f"todoku-1.{ZONE}.dkim.nrt1.oracleemaildelivery.com"
    served.replace(f"mx.{ZONE}", "A", "203.0.113.10")
    served.replace(f"mx.{ZONE}", "AAAA", "2001:db8:10::10")
    served.replace(ZONE, "MX", f"10 mx.{ZONE}")
    served.replace(f"todoku-1._domainkey.{ZONE}", "CNAME", target)
    served.replace(f"todoku-2._domainkey.{ZONE}", "TXT", LONG)
    served.replace(f"_dmarc.{ZONE}", "TXT", "v=DMARC1; p=none; rua=mailto:a@fuga.example")
    assert served.values(f"mx.{ZONE}", "A") == ["203.0.113.10"]
    assert served.values(f"mx.{ZONE}", "AAAA") == ["2001:db8:10::10"]
    assert served.values(ZONE, "MX") == [f"10 mx.{ZONE}"]
    assert served.values(f"todoku-1._domainkey.{ZONE}", "CNAME") == [target]  # not with the zone appended
    assert served.values(f"todoku-2._domainkey.{ZONE}", "TXT") == [LONG]
    assert served.values(f"_dmarc.{ZONE}", "TXT") == ["v=DMARC1; p=none; rua=mailto:a@fuga.example"]
    for name, type_ in (
        (f"todoku-1._domainkey.{ZONE}", "CNAME"), (f"todoku-2._domainkey.{ZONE}", "TXT"), (ZONE, "MX"),
    ):  # fmt: skip
        # What the publisher reads back is what the world sees, else every plan would differ.
        assert sorted(served.publisher.look(ZONE, name, type_).values) == served.values(name, type_)


def test_one_txt_record_changes_and_its_neighbours_stay(served: Served) -> None:
    served.replace(ZONE, "TXT", PROOF, MERGED)
    assert served.values(ZONE, "TXT") == sorted([PROOF, MERGED])
    served.replace(ZONE, "TXT", PROOF)
    assert served.values(ZONE, "TXT") == [PROOF]


def test_a_cname_is_replaced_by_another(served: Served) -> None:
    name = f"bounce.{ZONE}"
    served.replace(name, "CNAME", "nrt1.rp.oracleemaildelivery.com")
    served.replace(name, "CNAME", "kix1.rp.oracleemaildelivery.com")
    assert served.values(name, "CNAME") == ["kix1.rp.oracleemaildelivery.com"]


def test_a_change_by_somebody_else_in_between_is_not_overwritten(served: Served) -> None:
    before = served.publisher.look(ZONE, f"mx.{ZONE}", "A").records
    served.replace(f"mx.{ZONE}", "A", "192.0.2.99")
    with pytest.raises(ChangedMeanwhile, match="changed by somebody else"):
        served.publisher.apply(ZONE, Replacement(f"mx.{ZONE}", "A", before, ("203.0.113.10",), 300))
    assert served.values(f"mx.{ZONE}", "A") == ["192.0.2.99"]


def test_applying_leads_to_the_wanted_records_and_then_to_an_empty_plan(served: Served) -> None:
    dkim = RecordSet(
        Reference("dkim:fuga.example", "name"), "CNAME", (Reference("dkim:fuga.example", "cname"),), 300,
        "DKIM", Merge.OURS,
    )  # fmt: skip
    served.names.outputs.tell(
        "dkim:fuga.example",
        name=f"todoku-1._domainkey.{ZONE}",
        cname=f"todoku-1.{ZONE}.dkim.nrt1.oracleemaildelivery.com.",
    )
    items = [Item(_without_needs(item.resource), item.client) for item in served.items(MX, HOST, DMARC, dkim)]
    outcome = apply(items, lambda _event: None)
    outcome.raise_bug()
    assert outcome.ok, outcome.failed
    assert not outcome.waits, outcome.waits
    assert make(items).empty
    assert served.values(f"todoku-1._domainkey.{ZONE}", "CNAME") == [
        f"todoku-1.{ZONE}.dkim.nrt1.oracleemaildelivery.com"
    ]


def _without_needs(resource):  # type: ignore[no-untyped-def]
    """The resource without the cloud's, which are not in this plan."""
    if isinstance(resource, RecordSetResource):
        return _Alone(resource.record, force=resource.force)
    return FewChanges(tuple(map(_without_needs, resource.records)), resource.force)


class _Alone(RecordSetResource):
    needs = frozenset()  # type: ignore[assignment]
    reads = frozenset()  # type: ignore[assignment]


def test_an_spf_record_that_is_there_gets_the_relay_and_keeps_its_terms(served: Served) -> None:
    # What the relay's include itself costs is looked up; here the zone that holds it is not served.
    served.replace(f"spf.{ZONE}", "TXT", "v=spf1 ip4:192.0.2.25 -all")
    record = RecordSet(ZONE, "TXT", (f"v=spf1 include:spf.{ZONE} ~all",), 300, "SPF", Merge.SPF)
    outcome = apply(served.items(record), lambda _event: None)
    outcome.raise_bug()
    assert outcome.ok and not outcome.waits, (outcome.failed, outcome.waits)
    wanted = f"v=spf1 ip4:192.0.2.0/24 include:spf.{ZONE} -all"
    assert served.values(ZONE, "TXT") == sorted([PROOF, wanted])
    assert spf_cost.count(wanted, ZONE, spf_resolve(served.names.lookups)).lookups == 1


def test_a_run_that_ended_between_adding_and_removing_is_finished(served: Served) -> None:
    record = RecordSet(ZONE, "TXT", (f"v=spf1 include:spf.{ZONE} ~all",), 300, "SPF", Merge.SPF)
    served.replace(f"spf.{ZONE}", "TXT", "v=spf1 ip4:192.0.2.25 -all")
    half_done = f"v=spf1 ip4:192.0.2.0/24 include:spf.{ZONE} -all"
    served.replace(ZONE, "TXT", PROOF, SPF_HERE, half_done)
    outcome = apply(served.items(record), lambda _event: None)
    outcome.raise_bug()
    assert outcome.ok, outcome.failed
    assert served.values(ZONE, "TXT") == sorted([PROOF, half_done])


def test_an_mx_that_points_elsewhere_is_a_conflict_until_forced(served: Served) -> None:
    served.replace(ZONE, "MX", "5 mx.elsewhere.example")
    waits = apply(served.items(MX), lambda _event: None).waits
    assert "mx.elsewhere.example" in str(waits) and "--force" in str(waits)
    assert served.values(ZONE, "MX") == ["5 mx.elsewhere.example"]
    outcome = apply(served.items(MX, force=True), lambda _event: None)
    outcome.raise_bug()
    assert outcome.ok
    assert served.values(ZONE, "MX") == [f"10 mx.{ZONE}"]


def test_changing_much_of_a_zone_is_refused(served: Served) -> None:
    records = []
    for number in range(12):
        name = f"todoku-{number}._domainkey.{ZONE}"
        served.replace(name, "CNAME", "old.oracleemaildelivery.com")
        records.append(RecordSet(name, "CNAME", ("new.oracleemaildelivery.com",), 300, "DKIM", Merge.OURS))
    refused = make(served.items(*records)).problems
    assert "12 of the" in str(refused) and "--force" in str(refused)
    assert make(served.items(*records, force=True)).problems == ()
    assert make(served.items(*records[:3])).problems == ()


def test_the_size_of_the_zone_is_known(served: Served) -> None:
    assert served.publisher.size(ZONE) == served.size


def test_a_wrong_tsig_secret_is_named(knot: Served, key: Key) -> None:
    wrong = Key(key.name, key.algorithm, b"x" * 32)
    publisher = _by_update(wrong, knot.names.lookups)
    with pytest.raises(PublisherFailed, match="same TSIG key todoku") as failed:
        publisher.apply(ZONE, Replacement(f"x.{ZONE}", "A", (), ("192.0.2.1",), 300))
    assert base64.b64encode(wrong.secret).decode() not in str(failed.value)


def test_a_tsig_key_that_the_server_does_not_know_is_named(knot: Served, key: Key) -> None:
    for wrong in (Key("other", key.algorithm, key.secret), Key(key.name, "hmac-sha512", key.secret)):
        with pytest.raises(PublisherFailed, match="compare name, algorithm") as failed:
            _by_update(wrong, knot.names.lookups).apply(
                ZONE, Replacement(f"x.{ZONE}", "A", (), ("192.0.2.1",), 300)
            )
        assert base64.b64encode(key.secret).decode() not in str(failed.value)
    assert knot.values(f"x.{ZONE}", "A") == []


def test_a_key_that_may_not_transfer_the_zone_can_publish_and_the_size_is_not_known(
    tmp_path: Path, key: Key
) -> None:
    with name_servers.knot(tmp_path, key, {ZONE: ZONE_FILE}, port=PORT, transfer=False):
        lookups = Lookups((ADDRESS,), send=to_port(PORT))
        publisher = _by_update(key, lookups)
        assert publisher.size(ZONE) is None
        publisher.apply(ZONE, Replacement(f"x.{ZONE}", "A", (), ("192.0.2.1",), 300))
        assert publisher.look(ZONE, f"x.{ZONE}", "A").values == ("192.0.2.1",)


def test_a_wrong_token_is_refused_and_never_shown(powerdns: Served) -> None:
    account = Account(
        "powerdns", {"auth_token": "wrong-token-0123", "pdns_server": f"http://127.0.0.1:{API}"}
    )
    with pytest.raises(PublisherFailed, match="credential file") as failed:
        LexiconPublisher(account, 300, Lookups(())).look(ZONE, ZONE, "MX")
    assert "wrong-token" not in str(failed.value)
    assert failed.value.__cause__ is None


def test_a_zone_that_the_server_does_not_have_is_named(served: Served) -> None:
    with pytest.raises(PublisherFailed):
        served.publisher.apply("nobody.example", Replacement("nobody.example", "A", (), ("192.0.2.1",), 300))
