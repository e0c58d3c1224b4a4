# Port 25 is the only one that faces the world. It takes mail for us, from anybody who behaves, and nothing else.

from __future__ import annotations

import pytest
from conftest import World


def test_the_banner_names_no_product_and_no_version(world: World) -> None:
    with world.port_25(helo=None) as smtp:
        assert smtp.greeting.code == 220
        assert smtp.greeting.text == f"{world.hostname} ESMTP"


def test_starttls_is_offered_and_auth_is_not(world: World) -> None:
    with world.port_25(helo=None) as smtp:
        offered = {line.split()[0] for line in smtp.say("EHLO mail.outside.example").lines[1:]}
        assert "STARTTLS" in offered
        assert not offered & {"AUTH", "SMTPUTF8", "CHUNKING", "ETRN", "VRFY", "DSN"}
        smtp.starttls(world.tls())
        offered = {line.split()[0] for line in smtp.say("EHLO mail.outside.example").lines[1:]}
        assert not offered & {"AUTH", "STARTTLS", "SMTPUTF8"}
        refused = smtp.auth_plain(world.alice.login, world.alice.password)
        assert refused.code == 503
        assert "authentication not enabled" in refused.text


def test_mail_without_a_greeting_is_refused(world: World) -> None:
    with world.port_25(helo=None) as smtp:
        refused = smtp.say(f"MAIL FROM:<{world.dave}>")
        assert refused.code == 503
        assert "send HELO/EHLO first" in refused.text


@pytest.mark.parametrize(
    ("greeting", "code", "words"),
    [
        ("laptop", 504, "need fully-qualified hostname"),
        ("no-such-host.outside.example", 550, "Host not found"),
        ("[300.1.1.1]", 501, "invalid ip address"),
        ("bad..name", 501, "Invalid name"),
    ],
)
def test_a_greeting_that_cannot_be_true_is_refused(
    world: World, greeting: str, code: int, words: str
) -> None:
    with world.port_25(helo=greeting) as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        refused = smtp.say(f"RCPT TO:<{world.bob.address}>")
        assert refused.code == code, refused
        assert words in refused.text


@pytest.mark.parametrize(
    ("sender", "code", "words"),
    [
        ("dave@localhost", 504, "need fully-qualified address"),
        ("dave", 504, "need fully-qualified address"),
        ("dave@no-such-domain.example", 550, "Domain not found"),
    ],
)
def test_a_sender_that_could_never_be_answered_is_refused(
    world: World, sender: str, code: int, words: str
) -> None:
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{sender}>")
        refused = smtp.say(f"RCPT TO:<{world.bob.address}>")
        assert refused.code == code, refused
        assert words in refused.text


def test_an_unknown_recipient_is_refused_during_smtp(world: World) -> None:
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        refused = smtp.say(f"RCPT TO:<nobody@{world.domain}>")
        assert (refused.code, refused.text.split()[0]) == (550, "5.1.1")
        assert "User unknown" in refused.text


def test_the_hosts_own_name_takes_mail_for_its_postmaster_only(world: World) -> None:
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        assert smtp.say(f"RCPT TO:<root@{world.hostname}>").code == 550
        assert smtp.say(f"RCPT TO:<www-data@{world.hostname}>").code == 550
        assert smtp.say(f"RCPT TO:<postmaster@{world.hostname}>").code == 250


@pytest.mark.parametrize("role", ["postmaster", "abuse", "Postmaster"])
def test_the_role_addresses_of_every_domain_are_answered(world: World, role: str) -> None:
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        assert smtp.say(f"RCPT TO:<{role}@{world.domain}>").code == 250


def test_nobody_can_ask_who_has_mail_here(world: World) -> None:
    with world.port_25() as smtp:
        vrfy = smtp.say(f"VRFY {world.alice.address}")
        assert vrfy.code == 502, vrfy
        assert "disabled" in vrfy.text
        assert smtp.say(f"EXPN {world.alice.address}").code // 100 == 5
        assert smtp.say(f"ETRN {world.domain}").code // 100 == 5


def test_an_internationalised_sender_is_refused(world: World) -> None:
    # The relay has no SMTPUTF8, so a message that needs it could never be answered or forwarded.
    with world.port_25() as smtp:
        refused = smtp.say("MAIL FROM:<デイブ@outside.example> SMTPUTF8")
        if refused.code == 250:
            refused = smtp.say(f"RCPT TO:<{world.bob.address}>")
        assert refused.code // 100 == 5, refused


def test_commands_sent_before_their_turn_are_refused(world: World) -> None:
    with world.port_25(helo=None) as smtp:
        smtp.send(
            f"HELO mail.outside.example\r\nMAIL FROM:<{world.dave}>\r\nRCPT TO:<{world.bob.address}>\r\n"
            "DATA\r\nSubject: too early\r\n\r\n.\r\nQUIT\r\n".encode()
        )
        replies = []
        try:
            while True:
                replies.append(smtp.reply())
        except (ConnectionError, OSError):
            pass
        assert any(r.code == 554 and "SMTP protocol synchronization" in r.text for r in replies), replies
    assert world.count(world.bob, "too early") == 0


def test_a_message_larger_than_our_limit_is_refused_before_it_is_sent(world: World) -> None:
    with world.port_25() as smtp:
        refused = smtp.say(f"MAIL FROM:<{world.dave}> SIZE=25000001")
        assert refused.code == 552
        assert "exceeds" in refused.text
