"""The judge says what a large mailbox provider would say, and never fails on what it is shown."""

from __future__ import annotations

import random

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import pytest
from conftest import OUTSIDE, FakeDns
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.rehearsal.internet import lookups
from todoku.rehearsal.internet.lookups import Exchange, LookupFailed, NoExchange, exchanges, from_dnspython
from todoku.rehearsal.judge import Dkim, Dmarc, Iprev, Spf, judge, organizational_domain
from todoku.rehearsal.outside import Letter, compose
from todoku.rehearsal.relay.message import Message, parse
from todoku.rehearsal.relay.signing import Signer, body_digest

BOB = "bob@outside.example"


@pytest.fixture
def letter(plan) -> bytes:
    return compose(Letter(BOB, ("carol@mailbox.example",)), plan)


def judged(
    message: bytes,
    dns: FakeDns,
    *,
    mail_from: str = BOB,
    ip: str = OUTSIDE,
    helo: str = "mail.outside.example",
):
    return judge(message, mail_from, "carol@mailbox.example", ip, helo, True, dns)


def signed(signer: Signer, *lines: str, body: bytes = b"body\r\n") -> bytes:
    message = parse("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    signature = signer.sign(message.fields, body_digest(body))
    return Message((signature, *message.fields), message.body).octets()


def test_well_kept_mail_passes_everything(letter, dns):
    found = judged(letter, dns)
    assert found.spf == Spf("pass", "outside.example", True)
    assert found.dkim == (Dkim("pass", "outside.example", "mail", True),)
    assert found.dmarc == Dmarc("pass", "reject", "outside.example")
    assert found.iprev == Iprev("pass", "mail.outside.example")
    assert found.header_from == BOB


@pytest.mark.parametrize("part", ["From:", "Subject: Hello", "A message"])
def test_one_changed_byte_breaks_the_signature(letter, dns, part):
    place = letter.index(part.encode()) + len(part) - 1
    changed = letter[:place] + bytes([letter[place] ^ 1]) + letter[place + 1 :]
    if part == "From:":
        place = letter.index(b"bob@")
        changed = letter[:place] + b"rob@" + letter[place + 4 :]
    assert judged(letter, dns).dkim[0].result == "pass"
    assert judged(changed, dns).dkim[0].result == "fail"


def test_an_added_from_field_breaks_the_signature_and_dmarc(letter, dns):
    found = judged(b"From: ceo@outside.example\r\n" + letter, dns)
    assert found.dkim[0].result == "fail"
    assert found.dmarc.result == "permerror"


def test_a_forged_from_fails_dmarc(dns, plan):
    forged = compose(Letter(BOB, ("carol@mailbox.example",), header_from="alice@hoge.example"), plan)
    found = judged(forged, dns)
    assert found.spf == Spf("pass", "outside.example", False)
    assert found.dkim[0] == Dkim("pass", "outside.example", "mail", False)
    assert found.dmarc == Dmarc("fail", "reject", "hoge.example")


def test_another_address_fails_spf_but_the_signature_carries_dmarc(letter, dns):
    found = judged(letter, dns, ip="127.0.0.99")
    assert found.spf.result == "fail"
    assert found.dmarc.result == "pass"
    assert found.iprev == Iprev("permerror", "")


def test_the_null_sender_is_judged_by_its_greeting(letter, dns):
    dns.add("mail.outside.example", "TXT", f"v=spf1 ip4:{OUTSIDE} -all")
    assert judged(letter, dns, mail_from="").spf == Spf("pass", "mail.outside.example", True)


def test_a_name_that_does_not_point_back_fails(letter, dns):
    dns.host("mail.outside.example", "127.0.0.99")
    dns.add("80.0.0.127.in-addr.arpa", "PTR", "mail.outside.example.")
    assert judged(letter, dns).iprev == Iprev("fail", "mail.outside.example")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("outside.example", "spf"),
        ("mail._domainkey.outside.example", "dkim"),
        ("_dmarc.outside.example", "dmarc"),
        ("80.0.0.127.in-addr.arpa", "iprev"),
    ],
)
def test_a_lookup_that_fails_is_temporary(letter, dns, name, field):
    dns.broken.add(name)
    found = getattr(judged(letter, dns), field)
    assert (found[0] if field == "dkim" else found).result == "temperror"


def test_a_key_that_is_not_published_is_permanent(letter, dns):
    del dns.records["mail._domainkey.outside.example", "TXT"]
    assert judged(letter, dns).dkim[0].result == "permerror"


def test_internationalised_and_hyphenated_domains_are_judged_whole(dns, keys):
    domain = "xn--68j4b-test.example"
    dns.add(f"_dmarc.{domain}", "TXT", "v=DMARC1; p=quarantine")
    dns.records[f"s._domainkey.{domain}", "TXT"] = dns.records["todoku-nrt._domainkey.hoge.example", "TXT"]
    message = signed(Signer(domain, "s", keys["customer"]), f"From: a@{domain}", "To: x@y.example")
    assert judged(message, dns).dmarc == Dmarc("pass", "quarantine", domain)
    assert judged(message.replace(b"From: a@xn", b"From: a@xm"), dns).dmarc.result == "none"


def test_subdomains_inherit_sp_and_the_domain_itself_does_not(dns, plan):
    dns.add("_dmarc.outside.example", "TXT", "v=DMARC1; p=none; sp=reject; adkim=s")
    for author, expected in (
        ("bob@outside.example", Dmarc("pass", "none", "outside.example")),
        ("bob@sub.outside.example", Dmarc("fail", "reject", "sub.outside.example")),
    ):
        message = compose(Letter("", ("c@mailbox.example",), header_from=author), plan)
        assert judged(message, dns, mail_from="").dmarc == expected


def test_two_dmarc_records_are_none(letter, dns):
    dns.add("_dmarc.outside.example", "TXT", "v=DMARC1; p=none", "v=DMARC1; p=reject")
    assert judged(letter, dns).dmarc == Dmarc("none", "", "outside.example")


@pytest.mark.parametrize(
    "body",
    [b"", b"\r\n", b"\r\n\r\n", b" \r\n", b"a", b"a \t b\t\r\n\r\n \r\n", b"a\r\n\r\n", b" a\r\n\tb  c\r\n"],
)
def test_our_signatures_hold_for_awkward_bodies(dns, keys, body):
    signer = Signer("hoge.example", "todoku-nrt", keys["customer"])
    message = signed(signer, "From: a@hoge.example", "Subject:  folded\r\n\t line ", "To:", body=body)
    assert judged(message, dns).dkim[0].result == "pass"


@given(st.text(alphabet="ab \t\r\n.", max_size=60))
@settings(max_examples=200, deadline=None)
def test_our_signatures_hold_for_any_body(keys_of_module, body):
    signer, dns = keys_of_module
    text = body.replace("\r", "").replace("\n", "\r\n").encode() + b"\r\n"
    assert judged(signed(signer, "From: a@hoge.example", body=text), dns).dkim[0].result == "pass"


@pytest.fixture(scope="module")
def keys_of_module(keys):
    from todoku.rehearsal.internet import pki

    dns = FakeDns()
    dns.add("s._domainkey.hoge.example", "TXT", pki.dkim_txt(keys["customer"]))
    return Signer("hoge.example", "s", keys["customer"]), dns


@given(st.binary(max_size=400), st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_hostile_messages_get_a_judgement(message, mail_from, helo):
    found = judged(b"DKIM-Signature: " + message, FakeDns(), mail_from=mail_from, helo=helo)
    assert found.dmarc.result in ("none", "permerror", "fail")
    judged(b"From: " + message + b"\r\n\r\n", FakeDns())


@pytest.mark.parametrize(
    "head",
    [b"", b" leading blank: x", b"From: a@b@c", b"From: <", b"From: \xff\xfe@\x00",
     b"DKIM-Signature: v=1; d=; s=; b=",
     b"DKIM-Signature: v=1; a=rsa-sha256; d=" + b"x" * 300 + b"; s=s; h=from; bh=AA==; b=AA=="],
)  # fmt: skip
def test_broken_headers_get_a_judgement(head, dns):
    assert judged(head + b"\r\n\r\nbody", dns).dmarc.result != "pass"


@pytest.mark.parametrize(
    ("domain", "organization"),
    [
        ("a.b.hoge.example", "hoge.example"),
        ("hoge.example", "hoge.example"),
        ("mail.hoge.co.jp", "hoge.co.jp"),
        ("a.xn--wgv71a119e.jp", "xn--wgv71a119e.jp"),
        ("nrt1.rp.oracleemaildelivery.com", "oracleemaildelivery.com"),
        ("example", "example"),
        ("", ""),
    ],
)
def test_organizations_are_told_apart_under_every_top_level_domain(domain, organization):
    assert organizational_domain(domain) == organization


# The resolver itself, against a name server on a socket.


def test_the_resolver_tells_no_record_from_no_answer(tmp_path):
    import socket
    import threading

    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)

    def serve() -> None:
        for _ in range(4):
            packet, client = server.recvfrom(4096)
            query = dns.message.from_wire(packet)
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.AA
            name = query.question[0].name.to_text()
            if name == "t.example.":
                reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", '"v=spf1 " "-all"'))
            elif name == "gone.example.":
                reply.set_rcode(dns.rcode.NXDOMAIN)
            elif name == "broken.example.":
                reply.set_rcode(dns.rcode.SERVFAIL)
            server.sendto(reply.to_wire(), client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], server.getsockname()[1]
    ask = from_dnspython(resolver, 1)
    assert ask("t.example", "TXT") == (b"v=spf1 -all",)
    assert ask("gone.example", "A") == ()
    assert ask("empty.example", "A") == ()
    with pytest.raises(LookupFailed):
        ask("broken.example", "A")
    server.close()
    with pytest.raises(LookupFailed):
        ask("silent.example", "A")
    assert ask("not..a.name", "A") == ()


def test_exchanges_come_in_order_and_without_mx_the_name_itself_is_asked():
    dns = FakeDns()
    dns.add("d.example", "MX", "20 b.example.", "5 a.example.")
    for name, address in (
        ("a.example", "127.0.0.1"),
        ("b.example", "127.0.0.2"),
        ("plain.example", "127.0.0.3"),
    ):
        dns.host(name, address)
    dns.add("a.example", "AAAA", "::1")
    assert exchanges("d.example", dns) == (
        Exchange("a.example", "127.0.0.1"),
        Exchange("a.example", "::1"),
        Exchange("b.example", "127.0.0.2"),
    )
    assert exchanges("d.example", dns, [6]) == (Exchange("a.example", "::1"),)
    assert exchanges("plain.example", dns) == (Exchange("plain.example", "127.0.0.3"),)
    dns.add("null.example", "MX", "0 .")
    for nothing in ("null.example", "nowhere.example", "[127.0.0.1]", ""):
        with pytest.raises(NoExchange):
            exchanges(nothing, dns)


def test_equal_preferences_share_the_load():
    dns = FakeDns()
    dns.add("d.example", "MX", "5 a.example.", "5 b.example.")
    dns.host("a.example", "127.0.0.1")
    dns.host("b.example", "127.0.0.2")
    random.seed(1)
    assert {exchanges("d.example", dns)[0].name for _ in range(50)} == {"a.example", "b.example"}
    assert lookups.addresses("127.0.0.9", dns) == ("127.0.0.9",)
