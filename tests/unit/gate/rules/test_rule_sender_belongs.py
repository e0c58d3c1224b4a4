# One account of the organisation must not be able to write in the name of another, by any spelling that a receiver
# would read as the other's address.

from __future__ import annotations

from pathlib import Path

import pytest
from outbound_mail import ALICE, Site, eml, refused

from todoku.gate.decision import PASS
from todoku.gate.rules.sender_belongs import sender_belongs


@pytest.mark.parametrize(
    "written",
    [
        "alice@hoge.example",
        "Alice <alice@hoge.example>",
        "<alice@hoge.example>",
        '"Bob, of sales" <alice@hoge.example>',
        "Alice Q. Cooper <alice@hoge.example>",
        "=?utf-8?B?44GC44KK44GZ?= <alice@hoge.example>",
        "=?utf-8?Q?Bob_=3Cbob=40hoge=2Eexample=3E?= <alice@hoge.example>",
        "alice@hoge.example (Bob <bob@hoge.example>)",
        "(nobody (really)) Alice\r\n <alice@hoge.example>",
        "Alice\r\n\t<alice@hoge.example>\r\n (at work)",
        '"bob@hoge.example" <alice@hoge.example>',
        "alice@hoge.example <alice@hoge.example>",
        "ALICE@Hoge.Example",
        "Sales <sales@hoge.example>",
        "Alice <alice+shop@hoge.example>",
        "alice @ hoge . example",
    ],
)
def test_an_address_of_the_login_passes_however_it_is_written(site: Site, written: str) -> None:
    assert sender_belongs(site.message(eml(f"From: {written}"))) is PASS


def test_the_refusal_names_the_address_and_what_the_login_may_use(site: Site) -> None:
    said = refused(sender_belongs(site.message(eml("From: Bob <bob@hoge.example>"))))
    assert said == (
        "550 5.7.1 From says bob@hoge.example, and alice@hoge.example may send as alice@hoge.example, "
        "sales@hoge.example"
    )


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("alice@hoge.example, bob@hoge.example", "From has 2 addresses"),
        ("alice@hoge.example <bob@hoge.example>", "an address without quotes in the place of the name"),
        ("<alice@hoge.example> <bob@hoge.example>", "angle brackets that do not belong together"),
        ("<alice@hoge.example> bob@hoge.example", "text after the closing angle bracket"),
        ("<alice@hoge.example>, <>", "nothing where an address should be"),
        ("Friends: alice@hoge.example;", "a group of addresses"),
        ("undisclosed:;", "a group of addresses"),
        ("=?utf-8?q?alice?=@hoge.example", "an encoded word in an address"),
        ("<=?utf-8?q?alice=40hoge.example?=>", "where an address should be"),
        ("<@outside.example:alice@hoge.example>", '"@outside.example:alice@hoge.example" where an address'),
        ("alice", '"alice" where an address should be'),
        ("al ice@hoge.example", "where an address should be"),
        ("al(x)ice@hoge.example", "where an address should be"),
        ("alice@[192.0.2.1]", "a [ that belongs to nothing"),
        ("Alice :-) <alice@hoge.example>", "a ) that belongs to nothing"),
        ("Alice;) <alice@hoge.example>", "a ) that belongs to nothing"),
        ("Alice) <alice@hoge.example>", "a ) that belongs to nothing"),
        ("\\\\ <alice@hoge.example>", "that belongs to nothing"),
        ("alice@hoge.example,", "a comma without an address"),
        ('"Alice <alice@hoge.example>', "a quotation mark that is not closed"),
        ("alice@hoge.example (work", "a bracket that is not closed"),
        ("alice@hoge.example\0@x", "where an address should be"),
        ("", "From has no addresses"),
        ("a" * 300 + "@hoge.example", "more than 254 characters"),
    ],
)
def test_what_is_not_surely_one_address_is_refused_and_the_rule_is_named(
    site: Site, written: str, words: str
) -> None:
    said = refused(sender_belongs(site.message(eml(f"From: {written}"))))
    assert said.startswith("550 5.7.1 From ")
    assert words in said
    assert "RFC 5322 3.6.2" in said


def test_a_message_without_from_is_refused(site: Site) -> None:
    said = refused(sender_belongs(site.message(eml("Subject: hi"))))
    assert said == "550 5.7.1 The message has no From headers; RFC 5322 3.6.2 asks for one address there"


def test_two_from_headers_are_refused_even_if_both_are_the_logins(site: Site) -> None:
    twice = eml(f"From: {ALICE}", f"FROM: {ALICE}")
    assert "2 From headers" in refused(sender_belongs(site.message(twice)))


def test_the_envelope_sender_has_to_belong_to_the_login_too(site: Site) -> None:
    message = site.message(eml(f"From: {ALICE}"), sender="bob@hoge.example")
    assert "The envelope sender is bob@hoge.example" in refused(sender_belongs(message))


def test_a_sender_header_has_to_belong_to_the_login_too(site: Site) -> None:
    assert sender_belongs(site.message(eml(f"From: {ALICE}", "Sender: sales@hoge.example"))) is PASS
    said = refused(sender_belongs(site.message(eml(f"From: {ALICE}", "Sender: bob@hoge.example"))))
    assert "Sender says bob@hoge.example" in said
    assert "Sender has 2 addresses" in refused(
        sender_belongs(site.message(eml(f"From: {ALICE}", f"Sender: {ALICE}, {ALICE}")))
    )


def test_a_login_that_the_directory_does_not_know_may_send_as_nobody(site: Site) -> None:
    said = refused(sender_belongs(site.message(eml(f"From: {ALICE}"), login="mallory")))
    assert said.endswith("mallory may send as nobody")


def test_devices_and_the_host_may_use_any_address_in_our_domains_and_no_other(site: Site) -> None:
    for ours in ("anything@hoge.example", "Scan <x@xn--18j4d.example>"):
        assert sender_belongs(site.from_device(eml(f"From: {ours}"))) is PASS
        assert sender_belongs(site.from_host(eml(f"From: {ours}"))) is PASS
    foreign = eml("From: visitor@gmail.example")
    for message in (site.from_device(foreign), site.from_host(foreign)):
        said = refused(sender_belongs(message))
        assert said == (
            "550 5.7.1 From says visitor@gmail.example, which is not in one of our domains: hoge.example, "
            "xn--18j4d.example"
        )


def test_bounces_made_here_and_mail_from_outside_are_not_judged_by_this_rule(site: Site) -> None:
    bounce = eml("From: MAILER-DAEMON@mx.hoge.example")
    assert sender_belongs(site.from_host(bounce, sender="")) is PASS
    assert sender_belongs(site.from_outside(eml("From: dave@outside.example"))) is PASS


def test_who_may_send_as_any_of_a_domain_may_and_as_one_of_another_may_not(
    site: Site, tmp_path: Path
) -> None:
    book = tmp_path / "sender_login"
    with book.open("a") as file:
        file.write(f"@xn--18j4d.example\t{ALICE}\n")
    assert sender_belongs(site.message(eml("From: whoever@xn--18j4d.example"))) is PASS
    said = refused(sender_belongs(site.message(eml("From: whoever@hoge.example"))))
    assert said.endswith(
        "may send as alice@hoge.example, any address of xn--18j4d.example, sales@hoge.example"
    )
