# Namecheap forgets every record that it is not told again: one careless write, and the shop, the newsletter and
# the mail are gone. The provider is dns-lexicon's own, unmodified, against an API that forgets as Namecheap's does.

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clouds import Tenancy
from conftest import World
from namecheap_api import HOST, Api, serving

from todoku.dns import namecheap
from todoku.dns.lexicon_account import Account
from todoku.dns.lexicon_publisher import LexiconPublisher
from todoku.dns.lookups import Lookups
from todoku.dns.publisher import ChangedMeanwhile, PublisherFailed, Replacement
from todoku.rehearsal.internet.pki import Authority
from todoku.settings.outside import Dns

KEY = "0123456789abcdef0123456789abcdef"
_NAMES = ("HostId", "Name", "Type", "Address", "MXPref", "TTL")
FOREIGN = [
    dict(zip(_NAMES, values, strict=True))
    for values in (
        ("1", "@", "A", "192.0.2.80", "10", "1799"),
        ("2", "www", "CNAME", "shops.outside.example.", "10", "60"),
        ("3", "old", "URL301", 'https://x.example/?a=1&b="2"', "10", "1800"),
        ("4", "@", "TXT", "proof=0123", "10", "1799"),
        ("5", "@", "TXT", "v=spf1 a -all", "10", "1799"),
        ("6", "*.dev", "AAAA", "2001:db8::80", "10", "300"),
        ("8", "lists", "MX", "mx.outside.example.", "20", "1800"),
        ("7", "@", "CAA", '0 issue "letsencrypt.org"', "10", "1800"),
    )
]
LONG = "v=DKIM1; k=rsa; p=" + "A" * 400


@pytest.fixture
def api(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    authority = Authority.create(tmp_path / "pki")
    authority.issue([HOST], tmp_path / "pki")
    bundle = tmp_path / "bundle.pem"  # the world's authorities, and the one of this API
    bundle.write_text(
        Path(os.environ["REQUESTS_CA_BUNDLE"]).read_text() + authority.certificate_path.read_text()
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setattr(namecheap, "_PAUSE", 0.05)
    sld, _, tld = world.domain.partition(".")
    with serving(Api(KEY, sld, tld, copy.deepcopy(FOREIGN)), tmp_path / "pki", Path("/etc/hosts")) as api:
        yield api
        assert api.errors == []


@pytest.fixture
def publisher(api: Api, tmp_path: Path) -> LexiconPublisher:
    credential = tmp_path / "credential"
    credential.touch(0o600)
    credential.write_text(f"auth_username=dan\nauth_token={api.key}\nauth_client_ip=203.0.113.10\n")
    account = Account.of(Dns(publisher="lexicon", provider="namecheap", credential_file=credential))
    return LexiconPublisher(account, 600, Lookups.of_system())


def foreign(api: Api, *names: tuple[str, str]) -> list[tuple[str, ...]]:
    """Every record but those of `names`, with all that setHosts can be told."""
    kept = [host for host in api.hosts if (host["Name"], host["Type"]) not in names]
    return sorted(tuple(host[key] for key in ("Name", "Type", "Address", "MXPref", "TTL")) for host in kept)


def replace(publisher: LexiconPublisher, domain: str, name: str, type_: str, *after: str) -> None:
    before = publisher.look(domain, name, type_).records
    publisher.apply(domain, Replacement(name, type_, before, after, 600))


def test_everything_that_mail_needs_is_published_and_no_foreign_record_is_lost(
    world: World, api: Api, publisher: LexiconPublisher
) -> None:
    domain = world.domain
    before = foreign(api, ("@", "TXT"))
    target = f"todoku-nrt1-202611.{domain}.dkim.nrt1.oracleemaildelivery.com"
    spf = "v=spf1 a include:ap.rp.oracleemaildelivery.com -all"
    wanted = [
        (f"mx.{domain}", "A", "203.0.113.10"),
        (domain, "MX", f"10 mx.{domain}"),
        (f"todoku-nrt1-202611._domainkey.{domain}", "CNAME", target),
        (f"long._domainkey.{domain}", "TXT", LONG),
        (f"_dmarc.{domain}", "TXT", "v=DMARC1; p=none"),
    ]
    for name, type_, value in wanted:
        replace(publisher, domain, name, type_, value)
    replace(publisher, domain, domain, "TXT", "proof=0123", spf)
    for name, type_, value in wanted:
        assert publisher.look(domain, name, type_).values == (value,)
    assert sorted(publisher.look(domain, domain, "TXT").values) == ["proof=0123", spf]
    assert set(before) <= set(foreign(api))
    assert len(api.hosts) == len(FOREIGN) + len(wanted)
    assert api.email_type == "MX"  # else Namecheap forgets the MX record
    assert api.writes == len(wanted) + 1
    assert api.calls.count("getInfo") == 0  # of twenty requests a minute none is wasted
    (txt,) = [host for host in api.hosts if host["Address"] == "proof=0123"]
    assert txt["TTL"] == "1799"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("error", "Unknown error from the provider"),
        ("error in an ok", "did not list the hosts"),
        ("no result", "did not list the hosts"),
        ("cut", "refused or failed"),
        ("cut without a length", "ParseError"),
        ("hung up", "ConnectionError"),
        ("strange", "not understood"),
        ("too many", "Did not receive 200"),
    ],
)
def test_a_list_that_does_not_arrive_whole_is_not_written_back(
    world: World, api: Api, publisher: LexiconPublisher, fault: str, said: str
) -> None:
    before = publisher.look(world.domain, world.domain, "TXT").records
    wanted = Replacement(world.domain, "TXT", before, ("proof=0123", "v=spf1 mx -all"), 600)
    there = copy.deepcopy(api.hosts)
    api.fault, api.times = fault, 100
    with pytest.raises(PublisherFailed, match=said) as failed:
        publisher.apply(world.domain, wanted)
    assert KEY not in str(failed.value)
    assert (api.writes, api.hosts) == (0, there)
    with pytest.raises(PublisherFailed):
        publisher.content(world.domain)  # nor is it taken for a zone with less in it
    api.times = 0
    publisher.apply(world.domain, wanted)  # and afterwards it goes on as if nothing had been
    assert len(api.hosts) == len(there)


def test_an_empty_list_of_a_domain_that_is_not_empty_is_not_believed(
    world: World, api: Api, publisher: LexiconPublisher
) -> None:
    tenancy = Tenancy(world)
    with tenancy.changed(f"www.{world.domain}", "A", "192.0.2.80"):
        api.fault, api.times = "nothing", 100
        with pytest.raises(PublisherFailed, match="no records at all, and the DNS has some"):
            replace(publisher, world.domain, f"mx.{world.domain}", "A", "203.0.113.10")
    assert api.writes == 0


def test_srv_records_that_the_api_does_not_show_stop_everything(
    world: World, api: Api, publisher: LexiconPublisher
) -> None:
    tenancy = Tenancy(world)
    with (
        tenancy.changed(f"_imaps._tcp.{world.domain}", "SRV", f"0 1 993 mx.{world.domain}."),
        pytest.raises(PublisherFailed, match=rf"_imaps\._tcp\.{world.domain}.*would lose.*manual"),
    ):
        replace(publisher, world.domain, f"mx.{world.domain}", "A", "203.0.113.10")
    assert api.writes == 0


def test_too_many_requests_are_waited_out_and_a_lost_answer_is_no_second_write(
    world: World, api: Api, publisher: LexiconPublisher
) -> None:
    api.fault, api.command, api.times = "too many", "setHosts", 3
    replace(publisher, world.domain, f"mx.{world.domain}", "A", "203.0.113.10")
    assert api.writes == 1
    before = publisher.look(world.domain, world.domain, "MX").records
    api.fault, api.times = "done, and hung up", 1
    wanted = Replacement(world.domain, "MX", before, (f"10 mx.{world.domain}",), 600)
    with pytest.raises(PublisherFailed, match="ConnectionError"):
        publisher.apply(world.domain, wanted)
    publisher.apply(world.domain, wanted)  # apply again: it is there already
    assert api.writes == 2
    assert len(api.hosts) == len(FOREIGN) + 2


def test_what_somebody_changes_in_the_console_meanwhile_is_not_overwritten(
    world: World, api: Api, publisher: LexiconPublisher
) -> None:
    before = publisher.look(world.domain, world.domain, "TXT").records
    api.hosts[4]["Address"] = "v=spf1 include:_spf.outside.example -all"
    with pytest.raises(ChangedMeanwhile):
        publisher.apply(world.domain, Replacement(world.domain, "TXT", before, ("v=spf1 -all",), 600))
    assert api.writes == 0


def test_a_domain_with_other_name_servers_and_a_wrong_key_are_told(
    world: World, api: Api, publisher: LexiconPublisher
) -> None:
    api.ours = False
    with pytest.raises(PublisherFailed, match="does not use namecheap's name servers"):
        publisher.content(world.domain)
    api.ours, api.key = True, "another"
    with pytest.raises(PublisherFailed, match="API Key is invalid") as failed:
        publisher.content(world.domain)
    assert KEY not in str(failed.value)
    assert api.writes == 0
