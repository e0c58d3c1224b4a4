"""The world's DNS must say what the real one would, or a rehearsal proves nothing.

The zone files are read back by dnspython, and SPF is judged by pyspf: not by the code that wrote them.
"""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import dkim
import dns.name
import dns.rdatatype
import dns.zone
import pytest
import spf

from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet.pki import generate_dkim_key
from todoku.rehearsal.internet.plan import InternetPlan, RelayCredential, SeededDomain
from todoku.rehearsal.internet.zones import NAME_SERVER, NameTakenError, Record, records, render, zones

KEY = generate_dkim_key()
Judge = Callable[[InternetPlan, object, str, str], str]
SELECTOR = "hoge-nrt-20261101"


def seeded(name: str, key: str = KEY) -> SeededDomain:
    return SeededDomain(name, SELECTOR, key)


PLAN = InternetPlan(
    hostname="mx.hoge.example",
    addresses=(world.SERVER, world.SERVER6),
    domains=(seeded("hoge.example"), seeded("todoku.co.jp")),
    region="ap-tokyo-1",
    region_code="nrt1",
    relay_hostname="smtp.email.ap-tokyo-1.oci.oraclecloud.com",
    credential=RelayCredential("user", "password"),
    approved_senders=("@hoge.example",),
    outside_selector="out",
    outside_dkim_private_key=KEY,
    regional_selector="prod-nrt-20240101",
    regional_dkim_private_key=KEY,
)


class Internet:
    """Answers from the zone files alone, from the root down."""

    def __init__(self, plan: InternetPlan) -> None:
        self.zones = {
            name: dns.zone.from_text(text, origin=dns.name.from_text(name), relativize=False)
            for name, text in zones(plan).items()
        }

    def zone_of(self, name: str) -> dns.zone.Zone:
        """The zone that the delegations lead to."""
        wanted, here = dns.name.from_text(name), self.zones["."]
        while True:
            below = [
                owner
                for owner, rdataset in here.iterate_rdatasets("NS")
                if owner != here.origin and wanted.is_subdomain(owner)
            ]
            if not below:
                return here
            here = self.zones[max(below, key=len).to_text(omit_final_dot=True)]

    def ask(self, name: str, rdtype: str) -> list[str]:
        zone, owner = self.zone_of(name), dns.name.from_text(name)
        alias = zone.get_rdataset(owner, "CNAME")
        if alias is not None and rdtype != "CNAME":
            return self.ask(alias[0].target.to_text(), rdtype)
        if not any(known.is_subdomain(owner) for known in zone):
            owner = self._wildcard(zone, owner)
        found = zone.get_rdataset(owner, rdtype)
        return [] if found is None else sorted(self._text(rdata) for rdata in found)

    @staticmethod
    def _wildcard(zone: dns.zone.Zone, missing: dns.name.Name) -> dns.name.Name:
        """The name that stands in for a missing one: * below the closest that exists (RFC 4592 3.3.1)."""
        encloser = missing.parent()
        while not any(known.is_subdomain(encloser) for known in zone):
            encloser = encloser.parent()
        return dns.name.Name((b"*", *encloser.labels))

    @staticmethod
    def _text(rdata: dns.rdata.Rdata) -> str:
        if rdata.rdtype == dns.rdatatype.TXT:
            return b"".join(rdata.strings).decode()
        return rdata.to_text().rstrip(".")


@pytest.fixture(scope="module")
def internet() -> Internet:
    return Internet(PLAN)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """pyspf, with the zone files as its DNS."""

    def with_plan(plan: InternetPlan, address: object, sender: str, helo: str) -> str:
        known = Internet(plan)

        def look_up(name: str, qtype: str, *_: object, **__: object) -> list[tuple[tuple[str, str], object]]:
            answers: list[object] = []
            for text in known.ask(name, qtype):
                if qtype == "TXT":
                    answers.append((text.encode(),))
                elif qtype == "MX":
                    answers.append((int(text.split()[0]), text.split()[1]))
                else:
                    answers.append(text)
            return [((name, qtype), answer) for answer in answers]

        monkeypatch.setattr(spf, "DNSLookup", look_up)
        return str(spf.check2(i=str(address), s=sender, h=helo)[0])

    return with_plan


def test_our_domain_says_where_its_mail_goes_and_who_may_send_it(internet: Internet) -> None:
    assert internet.ask("hoge.example", "MX") == ["10 mx.hoge.example"]
    assert internet.ask("hoge.example", "TXT") == ["v=spf1 include:ap.rp.oracleemaildelivery.com ~all"]
    assert internet.ask("_dmarc.hoge.example", "TXT") == ["v=DMARC1; p=none"]
    assert internet.ask("mx.hoge.example", "A") == ["203.0.113.10"]
    assert internet.ask("mx.hoge.example", "AAAA") == ["2001:db8:10::10"]


def test_a_real_domain_is_reached_from_the_root_although_the_world_has_no_jp(internet: Internet) -> None:
    assert internet.ask("todoku.co.jp", "MX") == ["10 mx.hoge.example"]
    assert "co.jp" not in internet.zones


def test_the_dkim_name_is_an_alias_of_the_relays_which_holds_a_key_that_verifies(internet: Internet) -> None:
    name = f"{SELECTOR}._domainkey.hoge.example"
    assert internet.ask(name, "CNAME") == [f"{SELECTOR}.hoge.example.dkim.nrt1.oracleemaildelivery.com"]

    message = b"From: alice@hoge.example\r\n\r\nhello\r\n"
    signed = dkim.sign(message, SELECTOR.encode(), b"hoge.example", KEY.encode(), include_headers=[b"From"])
    assert dkim.verify(
        signed + message, dnsfunc=lambda asked, **_: internet.ask(asked.decode(), "TXT")[0].encode()
    )


def test_a_dkim_target_that_would_be_too_long_for_a_name_is_replaced_by_the_key_itself() -> None:
    domain = ".".join(["a" * 63, "b" * 63, "c" * 63, "more", "example"])
    internet = Internet(replace(PLAN, domains=(seeded("hoge.example"), seeded(domain))))

    assert internet.ask(f"{SELECTOR}._domainkey.{domain}", "CNAME") == []
    assert internet.ask(f"{SELECTOR}._domainkey.{domain}", "TXT")[0].startswith("v=DKIM1; k=rsa; p=")


@pytest.mark.parametrize(
    ("region", "includes"),
    [
        ("us-ashburn-1", ["rp"]),
        ("sa-saopaulo-1", ["rp"]),
        ("ca-toronto-1", ["rp"]),
        ("mx-queretaro-1", ["rp"]),
        ("ap-osaka-1", ["ap.rp"]),
        ("eu-frankfurt-1", ["eu.rp"]),
        ("uk-london-1", ["eu.rp"]),
        ("me-dubai-1", ["rp", "ap.rp", "eu.rp"]),
        ("il-jerusalem-1", ["rp", "ap.rp", "eu.rp"]),
    ],
)
def test_spf_includes_the_group_of_the_region_and_the_relay_passes(
    region: str, includes: list[str], judge: Judge
) -> None:
    plan = replace(PLAN, region=region, relay_hostname=f"smtp.email.{region}.oci.oraclecloud.com")
    wanted = " ".join(f"include:{name}.oracleemaildelivery.com" for name in includes)
    assert Internet(plan).ask("hoge.example", "TXT") == [f"v=spf1 {wanted} ~all"]

    for sender in ("alice@hoge.example", f"bounce@{plan.return_path_domain}"):
        assert judge(plan, world.RELAY_OUTGOING, sender, plan.relay_outgoing_hostname) == "pass"
        assert judge(plan, world.OUTSIDE, sender, world.OUTSIDE_HOST) == "softfail"


def test_the_wrong_regions_include_does_not_let_the_relay_pass(internet: Internet) -> None:
    assert internet.ask("ap.rp.oracleemaildelivery.com", "TXT") == ["v=spf1 ip4:192.0.2.25 ~all"]
    assert internet.ask("eu.rp.oracleemaildelivery.com", "TXT") == ["v=spf1 ~all"]


@pytest.mark.parametrize("address", [world.OUTSIDE, world.OUTSIDE6])
def test_the_outside_sender_passes_over_both_protocols_and_a_forger_fails(
    address: object, judge: Judge
) -> None:
    sender = f"bob@{world.OUTSIDE_DOMAIN}"
    assert judge(PLAN, address, sender, world.OUTSIDE_HOST) == "pass"
    assert judge(PLAN, world.SERVER, sender, "mx.hoge.example") == "fail"


def test_both_providers_have_what_mail_to_and_from_them_needs(internet: Internet) -> None:
    assert internet.ask("mailbox.example", "MX") == ["10 mx.mailbox.example"]
    assert internet.ask("mx.mailbox.example", "A") == ["198.51.100.25"]
    assert internet.ask("mx.mailbox.example", "AAAA") == ["2001:db8:25::25"]
    assert internet.ask("_dmarc.mailbox.example", "TXT") == ["v=DMARC1; p=none"]
    assert internet.ask("outside.example", "MX") == ["10 mail.outside.example"]
    assert internet.ask("_dmarc.outside.example", "TXT") == ["v=DMARC1; p=reject"]
    assert internet.ask("out._domainkey.outside.example", "TXT")[0].startswith("v=DKIM1")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("203.0.113.10", "mx.hoge.example"),
        ("2001:db8:10::10", "mx.hoge.example"),
        ("192.0.2.25", "aib29agh025.nrt1.oracleemaildelivery.com"),
        ("198.51.100.25", "mx.mailbox.example"),
        ("2001:db8:25::25", "mx.mailbox.example"),
        ("198.51.100.80", "mail.outside.example"),
        ("2001:db8:80::80", "mail.outside.example"),
    ],
)
def test_every_sending_address_has_a_name_and_the_name_has_the_address(
    internet: Internet, address: str, name: str
) -> None:
    assert internet.ask(ip_address(address).reverse_pointer, "PTR") == [name]
    assert address in internet.ask(name, "AAAA" if ":" in address else "A")


def test_an_address_without_a_name_belongs_to_a_zone_that_says_so_at_once(internet: Internet) -> None:
    for address in ("192.168.77.2", "10.0.0.1", "2001:db8:ffff::1", "192.0.2.99"):
        assert internet.ask(ip_address(address).reverse_pointer, "PTR") == []


def test_the_relay_and_the_clouds_other_names_lead_to_their_own_addresses(internet: Internet) -> None:
    def address(name: str) -> list[str]:
        return internet.ask(name, "A")

    assert address("smtp.email.ap-tokyo-1.oci.oraclecloud.com") == ["192.0.2.20"]
    assert internet.ask("nrt1.rp.oracleemaildelivery.com", "MX") == [
        "10 bmta.email.ap-tokyo-1.oci.oraclecloud.com"
    ]
    assert address("bmta.email.ap-tokyo-1.oci.oraclecloud.com") == ["192.0.2.20"]
    for name in ("ctrl.email", "cell0.submit.email", "identity", "dns", "a.b"):
        assert address(f"{name}.ap-tokyo-1.oci.oraclecloud.com") == ["192.0.2.21"], name
    assert address("auth.ap-tokyo-1.oraclecloud.com") == ["192.0.2.21"]
    # One region answers without a subscription of ours, as Oracle's others do; the rest do not exist here.
    assert address("identity.eu-frankfurt-1.oci.oraclecloud.com") == ["192.0.2.21"]
    assert address("identity.us-phoenix-1.oci.oraclecloud.com") == []


def test_a_relay_of_another_realm_is_found_too() -> None:
    internet = Internet(replace(PLAN, relay_hostname="smtp.email.ap-chiyoda-1.oci.oraclecloud8.com"))

    assert internet.ask("smtp.email.ap-chiyoda-1.oci.oraclecloud8.com", "A") == ["192.0.2.20"]


@pytest.mark.parametrize(
    "hostname", ["hoge.example", "mail.sub.hoge.example", "mail.elsewhere.jp", "mx.sub.example"]
)
def test_the_mail_host_is_found_wherever_its_name_lies(hostname: str) -> None:
    domains = (seeded("hoge.example"), seeded("sub.hoge.example"), seeded("example"))
    internet = Internet(replace(PLAN, hostname=hostname, domains=domains))

    assert internet.ask(hostname, "A") == ["203.0.113.10"]
    assert internet.ask(world.SERVER.reverse_pointer, "PTR") == [hostname]
    for domain in domains:
        assert internet.ask(domain.name, "MX") == [f"10 {hostname}"]
    assert internet.ask("mailbox.example", "MX") == ["10 mx.mailbox.example"]


def test_a_servers_real_addresses_get_reverse_zones_of_their_own() -> None:
    real = (ip_address("152.69.200.7"), ip_address("2603:c021:8000::7"))
    internet = Internet(replace(PLAN, addresses=real))

    for address in real:
        assert internet.ask(address.reverse_pointer, "PTR") == ["mx.hoge.example"]


@pytest.mark.parametrize(
    "taken",
    [
        "mailbox.example",
        "mx.mailbox.example",
        "oraclecloud.com",
        "a.oracleemaildelivery.com",
        "outside.example",
    ],
)
def test_a_name_of_somebody_else_in_the_world_is_refused_and_named(taken: str) -> None:
    with pytest.raises(NameTakenError, match=f"^{taken} cannot be rehearsed: .*another name in the settings"):
        zones(replace(PLAN, domains=(seeded(taken),)))
    with pytest.raises(NameTakenError, match=f"^{taken} cannot be rehearsed"):
        zones(replace(PLAN, hostname=taken))


def test_an_address_of_somebody_else_in_the_world_is_refused_and_named() -> None:
    with pytest.raises(NameTakenError, match=r"^192\.0\.2\.25 cannot be our server's address"):
        zones(replace(PLAN, addresses=(world.RELAY_OUTGOING,)))


def test_every_zone_names_the_one_server_and_is_delegated_by_the_zone_above_it(internet: Internet) -> None:
    for name, zone in internet.zones.items():
        assert [ns.target.to_text() for ns in zone.get_rdataset(zone.origin, "NS")] == [f"{NAME_SERVER}."]
        assert internet.zone_of(name) is zone
    assert internet.ask(NAME_SERVER, "A") == ["192.0.2.53"]


def test_no_record_lies_outside_its_zone(internet: Internet) -> None:
    # dnspython drops such a record without a word, and Knot refuses the whole zone.
    for name, content in records(PLAN).items():
        written = {(dns.name.from_text(record.name), record.type) for record in content}
        read = {
            (owner, dns.rdatatype.to_text(rdataset.rdtype))
            for owner, rdataset in internet.zones[name].iterate_rdatasets()
        }
        assert written <= read


@pytest.mark.parametrize(
    "text", ["", "x" * 255, "x" * 256, "y" * 700, 'quo"te \\ ; (semi)', "日本", "a\tb\x7f"]
)
def test_any_text_survives_a_txt_record_in_strings_of_at_most_255_bytes(text: str) -> None:
    zone = dns.zone.from_text(
        render("hoge.example", [Record("t.hoge.example", "TXT", text)]),
        origin="hoge.example.",
        relativize=False,
    )
    strings = zone.find_rdataset("t.hoge.example.", "TXT")[0].strings

    assert b"".join(strings).decode() == text
    assert all(len(string) <= 255 for string in strings)


def test_a_rehearsal_of_acme_asks_the_worlds_own_authority() -> None:
    from todoku.rehearsal import run
    from todoku.rehearsal.internet import authority
    from todoku.settings import parse

    text = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[cloud]
compartment = "ocid1.compartment.oc1..aaaaaaaaexample"
[dns]
publisher = "oci"
[tls]
mode = "acme"  # a public one
acme_directory = "https://acme.other.example/directory"
"""
    rehearsed = parse(run._beside_others(text, parse(text, "todoku.toml")), "todoku.toml")
    assert rehearsed.tls.acme_directory == authority.DIRECTORY
    without = text.replace('acme_directory = "https://acme.other.example/directory"\n', "")
    rehearsed = parse(run._beside_others(without, parse(without, "todoku.toml")), "todoku.toml")
    assert rehearsed.tls.acme_directory == authority.DIRECTORY


def test_a_database_on_another_machine_is_left_out_as_no_way_leads_to_it() -> None:
    from todoku.rehearsal import run
    from todoku.settings import parse

    text = """\
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[ledger]
  database = "postgresql://writer@db.hoge.example/ledger"  # in the office
database_password_file = "/etc/todoku/secrets/ledger-database"
days = 7
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "https://news.hoge.example"
database = "postgresql://writer@db.hoge.example/campaign"
"""
    rehearsed = parse(run._beside_others(text, parse(text, "todoku.toml")), "todoku.toml")
    assert rehearsed.ledger.database is rehearsed.ledger.database_password_file is None
    assert rehearsed.ledger.days == 7
    assert rehearsed.campaign is not None
    assert rehearsed.campaign.database is None
