# Who wrote it is found out by SPF, DKIM and DMARC, written down, and decides where it has to.

from __future__ import annotations

import time

import pytest
from inbound_side import MAIL, Dns, ask, mail, outside, settings, signature

from todoku.gate.context import Context
from todoku.gate.decision import PASS, Change, HoldBack, Refuse
from todoku.gate.message import Client
from todoku.gate.resolver import Found
from todoku.gate.rules.authentication import Authentication, remove_forged

STRANGER = Client("evil.test", "192.0.2.66", 4711, "evil.test")
OURS = (("From", " Alice <alice@hoge.example>"), ("Subject", " money"))


def results(headers: str | None) -> list[str]:
    assert headers is not None
    return [part.strip() for part in headers.split(";")]


def test_mail_that_passes_goes_on_with_the_results_above_everything_else() -> None:
    signed = mail(signature(MAIL), *MAIL)
    assert isinstance(ask(Authentication(outside().ask), signed), Change)
    top = next(iter(signed.headers))
    assert top.name == "Authentication-Results"
    host, spf, dkim, dmarc = results(top.text)
    assert host == "mx.hoge.example"
    assert spf == "spf=pass smtp.mailfrom=dave@outside.example"
    assert dkim.startswith('dkim=pass header.d=outside.example header.s=sel header.b="')
    assert dmarc == "dmarc=pass (p=reject) header.from=outside.example"


def test_a_signature_is_enough_where_spf_fails() -> None:
    forwarded = mail(signature(MAIL), *MAIL, client=STRANGER)
    assert isinstance(ask(Authentication(outside().ask), forwarded), Change)
    found = results(forwarded.headers.first("Authentication-Results"))
    assert "spf=fail smtp.mailfrom=dave@outside.example" in found
    assert "dmarc=pass (p=reject) header.from=outside.example" in found


def test_what_others_ask_to_refuse_is_refused_in_words() -> None:
    refused = ask(Authentication(outside().ask), mail(client=STRANGER))
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.enhanced) == (550, "5.7.1")
    assert "outside.example, which asks by DMARC (p=reject)" in refused.words
    assert "SPF fail for outside.example, no DKIM signature" in refused.words


@pytest.mark.parametrize("policy", ["none", "quarantine", "reject; t=y"])
def test_what_others_do_not_ask_to_refuse_is_written_down_only(policy: str) -> None:
    message = mail(client=STRANGER)
    assert isinstance(ask(Authentication(outside(policy).ask), message), Change)
    assert "dmarc=fail" in (message.headers.first("Authentication-Results") or "")


def test_honouring_others_policies_can_be_turned_off() -> None:
    context = Context(settings("[gate]\nhonour_dmarc = false\n"))
    assert isinstance(ask(Authentication(outside().ask), mail(client=STRANGER, context=context)), Change)


def test_a_body_changed_on_the_way_fails() -> None:
    changed = mail(signature(MAIL), *MAIL, client=STRANGER, body=b"other text\r\n")
    refused = ask(Authentication(outside().ask), changed)
    assert isinstance(refused, Refuse)
    assert "DKIM fail for outside.example" in refused.words


@pytest.mark.parametrize(
    "author",
    [
        " Alice <alice@hoge.example>",
        " alice@HOGE.example",
        " (x) alice@hoge.example (dave@outside.example)",
        " dave@outside.example, alice@hoge.example",
        ' "dave@outside.example" <alice@hoge.example>',
        " <<alice@hoge.example>>",
        " alice@hoge.example <dave@outside.example>",
    ],
)
def test_a_stranger_cannot_write_as_one_of_us(author: str) -> None:
    # outside.example asks for nothing: it is our own name that decides
    message = mail(("From", author), ("Subject", " money"), client=STRANGER)
    refused = ask(Authentication(outside("none").ask), message)
    assert isinstance(refused, Refuse), author
    assert (refused.code, refused.enhanced) == (550, "5.7.1")
    assert "hoge.example, one of our own domains" in refused.words


def test_a_second_from_header_does_not_hide_the_first() -> None:
    message = mail(("From", " dave@outside.example"), ("From", " alice@hoge.example"), client=STRANGER)
    assert isinstance(ask(Authentication(outside("none").ask), message), Refuse)


def test_our_own_mail_that_comes_back_with_its_signature_is_welcome() -> None:
    dns = outside().txt(
        "sel._domainkey.hoge.example", outside().records["sel._domainkey.outside.example", "TXT"][0].decode()
    )  # type: ignore[index]
    message = mail(signature(OURS, domain="hoge.example"), *OURS, client=STRANGER)
    assert isinstance(ask(Authentication(dns.ask), message), Change)


def test_the_check_of_our_own_domains_can_be_turned_off() -> None:
    context = Context(settings("[gate]\nown_domain_check = false\n"))
    assert isinstance(ask(Authentication(Dns().ask), mail(*OURS, client=STRANGER, context=context)), Change)


def test_somebody_elses_pass_is_not_one_for_us() -> None:
    # SPF of outside.example passes, and so does its signature; header From is ours.
    message = mail(signature(OURS), *OURS)
    assert isinstance(ask(Authentication(outside().ask), message), Refuse)


@pytest.mark.parametrize("name", ["_dmarc.outside.example", "outside.example"])
def test_dns_trouble_that_the_decision_depends_on_holds_the_message_back(name: str) -> None:
    held = ask(Authentication(outside().silent(name).ask), mail(client=STRANGER))
    assert isinstance(held, HoldBack)
    assert (held.code, held.enhanced) == (451, "4.4.3")
    assert "DNS" in held.words


def test_dns_trouble_that_changes_nothing_does_not() -> None:
    signed = mail(signature(MAIL), *MAIL)
    assert isinstance(ask(Authentication(outside().silent("outside.example").ask), signed), Change)
    found = results(signed.headers.first("Authentication-Results"))
    assert "spf=temperror smtp.mailfrom=dave@outside.example" in found
    assert "dmarc=pass (p=reject) header.from=outside.example" in found


def test_a_claim_to_be_us_waits_for_the_dns_too() -> None:
    dns = Dns().silent("hoge.example")
    held = ask(Authentication(dns.ask), mail(*OURS, sender="alice@hoge.example", client=STRANGER))
    assert isinstance(held, HoldBack)


def test_a_dns_that_never_answers_costs_no_more_than_the_deadline() -> None:
    def slow(_servers: tuple[str, ...], _name: str, _kind: str, seconds: float) -> Found:
        asked.append(seconds)
        time.sleep(min(seconds, 0.2))
        raise_trouble()
        return Found(())

    asked: list[float] = []
    assert isinstance(ask(Authentication(slow, deadline=0.3), mail()), HoldBack)
    assert len(asked) <= 2


def raise_trouble() -> None:
    from todoku.gate.resolver import DnsTrouble

    raise DnsTrouble("no answer")


def test_a_message_cannot_ask_without_end() -> None:
    dns = outside()
    includes = " ".join(f"include:i{number}.outside.example" for number in range(40))
    dns.txt("outside.example", f"v=spf1 {includes} -all")
    signatures = [signature(MAIL) for _ in range(30)]
    ask(Authentication(dns.ask), mail(*signatures, *MAIL))
    assert len(dns.asked) < 40


@pytest.mark.parametrize(
    "macros", [{"auth_authen": "alice"}, {"daemon_name": "ORIGINATING"}], ids=["login", "host"]
)
def test_our_own_people_and_machine_are_not_asked(macros: dict[str, str]) -> None:
    assert ask(Authentication(Dns().ask), mail(*OURS, macros=macros)) is PASS


def test_a_bounce_to_a_return_address_is_not_judged() -> None:
    to = ("bounces+SRS0=abcdefgh=aa=outside.example=dave@hoge.example",)
    bounce = mail(("From", " MAILER-DAEMON@outside.example"), sender="", to=to, client=STRANGER)
    assert isinstance(ask(Authentication(outside().ask), bounce), Change)


def test_what_only_looks_like_a_return_address_of_ours_does_not_keep_a_stranger_from_being_judged() -> None:
    to = ("bounces+SRS0=abcdefgh=aa=outside.example=dave@mx.hoge.example",)
    forged = mail(*OURS, sender="", to=to, client=STRANGER)
    assert isinstance(ask(Authentication(outside().ask), forged), Refuse)


@pytest.mark.parametrize("kind", ["SPF", "DKIM"])
def test_a_fault_of_our_own_is_raised_and_not_held_against_the_message(kind: str) -> None:
    dns = outside()

    def broken(servers: tuple[str, ...], name: str, record: str, seconds: float) -> Found:
        if ("_domainkey" in name) is (kind == "DKIM"):
            raise ValueError("a mistake of ours")
        return dns.ask(servers, name, record, seconds)

    with pytest.raises(ValueError, match="a mistake of ours"):
        ask(Authentication(broken), mail(signature(MAIL), *MAIL))


def test_what_a_library_should_not_raise_is_in_the_log_with_the_queue_id(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("unheard of")

    monkeypatch.setattr("dkim.DKIM.verify", fail)
    monkeypatch.setattr("spf.query.check", fail)
    ask(Authentication(outside("none").ask), mail(signature(MAIL), *MAIL))
    said = [record.getMessage() for record in caplog.records if record.exc_info]
    assert len(said) == 2
    assert all(line.startswith("QUEUE1: ") for line in said)


@pytest.mark.parametrize(
    "forged",
    [
        " mx.hoge.example; spf=pass",
        " MX.hoge.example ; dmarc=pass",
        " (really) mx.hoge.example 1; dkim=pass",
        '\r\n\t"mx.hoge.example"; dkim=pass',
        " ; dkim=pass",
    ],
)
def test_results_in_our_name_that_are_not_ours_are_removed(forged: str) -> None:
    message = mail(
        ("Authentication-Results", " mx.other.example; spf=pass"),
        ("authentication-results", forged),
        ("Authentication-Results", " mx.third.example; spf=fail"),
        ("Authentication-Results", forged),
        *MAIL,
    )
    assert isinstance(ask(remove_forged, message), Change)
    left = [header.text for header in message.headers.all("Authentication-Results")]
    assert left == ["mx.other.example; spf=pass", "mx.third.example; spf=fail"]


def test_what_others_found_stays() -> None:
    assert ask(remove_forged, mail(("Authentication-Results", " mx.hoge.example.test; spf=pass"))) is PASS


@pytest.mark.parametrize(
    "author",
    ["", " undisclosed", " =?utf-8?B?////?= <>", " @", " a@b@c", " \udcff\udcfe@\udc80", ' "', " <" * 500],
)
def test_no_header_makes_the_rule_fail(author: str) -> None:
    message = mail(("From", author), ("DKIM-Signature", author), sender="x@y", client=STRANGER)
    assert isinstance(ask(Authentication(Dns().ask), message), Change)


def test_results_show_an_envelope_sender_that_tries_to_write_its_own_as_unreadable() -> None:
    message = mail(sender="a;dmarc=pass@outside.example", client=STRANGER)
    ask(Authentication(outside("none").ask), message)
    assert "smtp.mailfrom=unreadable" in (message.headers.first("Authentication-Results") or "")
