# Providers' traps: an API that forgets what it is not told, a credential in an error's text or readable by
# others, a listing asked for thirty times.

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from internet import Internet

from todoku.dns import lexicon_publisher, namecheap, zonefile
from todoku.dns.lexicon_account import Account
from todoku.dns.lexicon_publisher import LexiconPublisher
from todoku.dns.lookups import Lookups, Server
from todoku.dns.publisher import ChangedMeanwhile, Listing, Published, PublisherFailed, Replacement
from todoku.dns.rfc2136 import Key, Rfc2136
from todoku.settings.outside import Dns

ZONE = "hoge.example"
HOSTS = [
    {"HostId": "1", "Name": "@", "Type": "TXT", "Address": "proof=1", "MXPref": "10", "TTL": "1799"},
    {"HostId": "2", "Name": "@", "Type": "TXT", "Address": "v=spf1 -all", "MXPref": "10", "TTL": "1799"},
    {
        "HostId": "3",
        "Name": "www",
        "Type": "URL301",
        "Address": "https://x.example",
        "MXPref": "10",
        "TTL": "60",
    },
]
SPF = Replacement(
    ZONE, "TXT",
    (Published(ZONE, "TXT", "proof=1", 1799), Published(ZONE, "TXT", "v=spf1 -all", 1799)),
    ("proof=1", "v=spf1 a -all"), 3600,
)  # fmt: skip
MX = Replacement(ZONE, "MX", (), ("10 mx.hoge.example",), 3600)


class Api:
    """Namecheap as lexicon speaks to it."""

    def __init__(self, hosts: list[dict[str, str]]) -> None:
        self.hosts = hosts
        self.sent: dict[str, str] = {}

    def call(self, command: str, payload: dict[str, str]) -> Element:
        space = 'xmlns="http://api.namecheap.com/xml.response"'
        if command.endswith("getHosts"):
            listed = "".join(
                "<host " + " ".join(f'{key}="{value}"' for key, value in host.items()) + "/>"
                for host in self.hosts
            )
            return fromstring(  # noqa: S314 - our own text
                f'<r {space}><DomainDNSGetHostsResult EmailType="FWD">{listed}</DomainDNSGetHostsResult></r>'
            )
        self.sent = payload
        return fromstring(f'<r {space}><DomainDNSSetHostsResult IsSuccess="true"/></r>')  # noqa: S314


def nothing(name: str, type_: str) -> bool:
    return False


class Namecheap:
    def __init__(self, hosts: list[dict[str, str]]) -> None:
        self.client = Api(hosts)


def sent(provider: Namecheap) -> set[tuple[str, str, str]]:
    p = provider.client.sent
    count = sum(key.startswith("HostName") for key in p)
    return {(p[f"HostName{n}"], p[f"RecordType{n}"], p[f"Address{n}"]) for n in range(1, count + 1)}


def test_namecheap_gets_all_hosts_back_with_one_changed() -> None:
    provider = Namecheap(HOSTS)
    namecheap.replace(provider, ZONE, SPF, has_records=nothing)
    assert sent(provider) == {
        ("@", "TXT", "proof=1"), ("@", "TXT", "v=spf1 a -all"), ("www", "URL301", "https://x.example"),
    }  # fmt: skip
    assert provider.client.sent["EmailType"] == "FWD"  # as it was: else its own mail service is switched off
    assert (provider.client.sent["SLD"], provider.client.sent["TLD"]) == ("hoge", "example")


def test_namecheap_is_told_that_there_are_mx_records_else_it_drops_them() -> None:
    provider = Namecheap(HOSTS)
    namecheap.replace(provider, ZONE, MX, has_records=nothing)
    assert provider.client.sent["EmailType"] == "MX"
    assert ("@", "MX", "mx.hoge.example.") in sent(provider)
    assert len(sent(provider)) == 4


def test_namecheap_records_that_its_api_would_lose_stop_the_change() -> None:
    provider = Namecheap([*HOSTS, {"Name": "_sip._tls", "Type": "SRV", "Address": "x", "TTL": "60"}])
    with pytest.raises(PublisherFailed, match=r"SRV.*manual"):
        namecheap.replace(provider, ZONE, MX, has_records=nothing)
    assert provider.client.sent == {}


def test_namecheap_changed_in_between_is_not_overwritten() -> None:
    with pytest.raises(ChangedMeanwhile):
        namecheap.merged([{**HOSTS[1], "Address": "v=spf1 mx -all"}], ZONE, SPF)


def account(tmp_path: Path, text: str, mode: int = 0o600, provider: str = "powerdns") -> Account:
    file = tmp_path / "dns"
    file.write_text(text)
    file.chmod(mode)
    return Account.of(Dns(publisher="lexicon", provider=provider, credential_file=file))


def test_options_are_read_in_every_form_that_lexicon_documents(tmp_path: Path) -> None:
    text = '# key\n--auth-token=a=b#$" c\nLEXICON_POWERDNS_PDNS_SERVER=https://dns.example\r\n\n'
    assert account(tmp_path, text).options == {"auth_token": 'a=b#$" c', "pdns_server": "https://dns.example"}


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("auth_token=x", 0o640, "chmod 600"),
        ("nonsense", 0o600, "line 1"),
        ("", 0o600, "empty"),
        ("auth_token=x\npdns_server=http://dns.example/", 0o600, "https://"),
    ],
)
def test_a_credential_file_that_is_not_safe_or_not_right_is_refused(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    with pytest.raises(PublisherFailed, match=said):
        account(tmp_path, text, mode)


def test_no_secret_gets_into_a_message_or_a_representation(tmp_path: Path) -> None:
    mine = account(tmp_path, "auth_token=very-secret-0123")
    assert mine.hide("GET https://dns.example/?key=very-secret-0123") == "GET https://dns.example/?key=***"
    assert "very-secret" not in repr(mine)


def test_a_provider_that_does_not_exist_is_named() -> None:
    with pytest.raises(PublisherFailed, match="no provider nosuchprovider"):
        LexiconPublisher(Account("nosuchprovider", {"a": "b"}), 60, Lookups(())).look(ZONE, ZONE, "MX")


def test_a_provider_without_its_options_says_what_it_lacks() -> None:
    with pytest.raises(PublisherFailed, match="powerdns refused or failed"):
        LexiconPublisher(Account("powerdns", {"auth_token": "x"}), 60, Lookups(())).look(ZONE, ZONE, "MX")


def test_a_zone_is_listed_once_for_many_questions_and_again_after_a_change() -> None:
    fetched: list[str] = []
    now = [0.0]

    def fetch(zone: str) -> tuple[Published, ...]:
        fetched.append(zone)
        return (Published(ZONE, "MX", "10 mx.hoge.example", 60), Published(ZONE, "TXT", "proof", 60))

    listing = Listing(fetch, fresh=3.0, clock=lambda: now[0])
    for _ in range(30):
        assert listing.found(ZONE, ZONE, "MX").others == {"TXT"}
    assert len(fetched) == 1
    listing.forget(ZONE)
    assert len(listing.records(ZONE)) == 2
    now[0] = 4.0
    listing.records(ZONE)
    assert len(fetched) == 3


def test_what_stays_of_a_record_set_gives_the_ttl_to_what_comes() -> None:
    assert SPF.common_ttl == 1799
    assert MX.common_ttl == 3600


def test_a_record_is_shown_in_both_forms_that_consoles_want() -> None:
    shown = "\n".join(zonefile.paste(ZONE, f"_dmarc.{ZONE}", "TXT", "v=DMARC1; p=none", 600).lines())
    assert "name   _dmarc\n" in shown
    assert "_dmarc.hoge.example." in shown
    assert "value  v=DMARC1; p=none\n" in shown
    assert '"v=DMARC1; p=none"' in shown
    long = zonefile.paste(ZONE, f"s._domainkey.{ZONE}", "TXT", "k" * 300, 600)
    assert long.values == ("k" * 300, f'"{"k" * 255}" "{"k" * 45}"')


def test_a_zone_file_is_one_that_name_servers_read() -> None:
    import dns.zone

    text = zonefile.render(
        ZONE,
        [
            (ZONE, "MX", "10 mx.hoge.example", 600, "mail"),
            (f"s._domainkey.{ZONE}", "CNAME", "target.example", 600, "DKIM"),
            (f"t._domainkey.{ZONE}", "TXT", "k" * 300 + '";\\', 600, "DKIM"),
        ],
    )
    soa = f"{ZONE}. 60 IN SOA ns a 1 2 3 4 5\n{ZONE}. 60 IN NS ns\n"
    zone: Any = dns.zone.from_text(text + soa, relativize=False, origin=f"{ZONE}.")
    assert b"".join(zone[f"t._domainkey.{ZONE}."].rdatasets[0][0].strings) == ("k" * 300 + '";\\').encode()


def test_what_took_too_long_is_told_to_stop_and_changes_nothing_afterwards() -> None:
    stopped, seen = threading.Event(), []

    def slow(stop: threading.Event) -> None:
        seen.append(stop.wait(10))
        stopped.set()

    with pytest.raises(TimeoutError):
        lexicon_publisher._bounded(slow, 0.05)
    assert stopped.wait(5)
    assert seen == [True]
    provider = Namecheap(HOSTS)
    with pytest.raises(PublisherFailed, match="too late"):
        namecheap.replace(provider, ZONE, SPF, has_records=nothing, go_on=lambda: False)
    assert provider.client.sent == {}


def test_a_name_server_that_is_down_is_asked_once_and_named() -> None:
    world = Internet(silent={"198.51.100.1"})
    server = Server("ns.hoge.example", "198.51.100.1")
    publisher = Rfc2136(server, Key("todoku", "hmac-sha256", b"x"), world.lookups())
    with pytest.raises(PublisherFailed, match=r"ns\.hoge\.example port 53 does not answer"):
        publisher.zone_of(f"a.b.c.d.{ZONE}")
    assert len(world.asked) == 1
