# 587 and 465 are for the organisation's own people: a password inside TLS, from their own networks, under their
# own address.

from __future__ import annotations

import base64

import pytest
from conftest import World

from todoku.rehearsal.smtp.dialogue import Dialogue


def test_587_wants_tls_before_anything_else(world: World) -> None:
    with Dialogue(world.ip, 587) as smtp:
        offered = {line.split()[0] for line in smtp.say("EHLO laptop").lines[1:]}
        assert "STARTTLS" in offered
        assert "AUTH" not in offered
        refused = smtp.say(f"MAIL FROM:<{world.alice.address}>")
        assert refused.code == 530
        assert "STARTTLS" in refused.text


def test_a_password_in_the_clear_is_not_even_looked_at(world: World) -> None:
    with Dialogue(world.ip, 587) as smtp:
        smtp.say("EHLO laptop")
        refused = smtp.auth_plain(world.alice.login, world.alice.password)
        assert refused.code // 100 == 5
        assert refused.code != 535  # that would be a verdict on the password


def test_465_speaks_tls_from_the_first_octet(world: World) -> None:
    with Dialogue(world.ip, 465, implicit_tls=world.tls(), hostname=world.hostname) as smtp:
        assert smtp.greeting.code == 220
        offered = {line.split()[0]: line for line in smtp.say("EHLO laptop").lines[1:]}
        assert "STARTTLS" not in offered
        assert "PLAIN" in offered["AUTH"]
        assert smtp.auth_plain(world.alice.login, world.alice.password).code == 235
        assert smtp.say(f"MAIL FROM:<{world.alice.address}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250


def test_old_tls_is_not_spoken(world: World) -> None:
    import ssl

    context = world.tls()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        Dialogue(world.ip, 465, implicit_tls=context, hostname=world.hostname)


@pytest.mark.parametrize(
    "greeting", ["laptop", "[192.168.1.5]", "My-PC.local", "no-such-host.example", "a_b"]
)
def test_any_greeting_will_do_once_the_password_is_right(world: World, greeting: str) -> None:
    with world.submission(world.alice, helo=greeting) as smtp:
        assert smtp.say(f"MAIL FROM:<{world.alice.address}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250


def test_a_wrong_password_is_refused(world: World) -> None:
    with world.submission(None) as smtp:
        refused = smtp.auth_plain(world.alice.login, "not the password")
        assert refused.code == 535, refused


def test_the_envelope_sender_has_to_belong_to_the_login(world: World) -> None:
    for sender in (world.bob.address, world.dave, f"root@{world.hostname}", f"nobody@{world.domain}"):
        with world.submission(world.alice) as smtp:
            refused = smtp.say(f"MAIL FROM:<{sender}>")
            assert refused.code == 553, "\n".join(smtp.transcript)
            assert f"not owned by user {world.alice.login}" in refused.text


def test_the_null_sender_is_for_those_who_have_logged_in(world: World) -> None:
    # Mail programs send read receipts without a sender; what becomes of them is in test_gate_outbound.py.
    with world.submission(world.alice) as smtp:
        assert smtp.say("MAIL FROM:<>").code == 250
    with world.submission(None) as smtp:
        refused = smtp.say("MAIL FROM:<>")
        assert refused.code in (530, 553), refused


def test_mail_from_an_own_further_address_is_accepted(world: World) -> None:
    further = f"sales@{world.domain}"
    assert world.todoku("account", "address", "add", world.alice.address, further).returncode == 0
    try:
        with world.submission(world.alice) as smtp:
            smtp.say(f"MAIL FROM:<{further}>")
            assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250
        with world.submission(world.bob) as smtp:
            assert smtp.say(f"MAIL FROM:<{further}>").code == 553
    finally:
        world.todoku("account", "address", "remove", world.alice.address, further)


@pytest.mark.parametrize("port", [587, 465])
def test_submission_is_closed_to_the_world(world: World, port: int) -> None:
    # From outside the client networks there is no chance to try passwords at all.
    tls = world.tls() if port == 465 else None
    with Dialogue(world.ip, port, source=world.outside_ip, implicit_tls=tls, hostname=world.hostname) as smtp:
        assert smtp.greeting.code == 554, smtp.transcript
        assert "from the organisation's own networks only" in smtp.greeting.text
        token = base64.b64encode(f"\0{world.alice.login}\0{world.alice.password}".encode()).decode()
        for line in ("EHLO laptop", "STARTTLS", f"AUTH PLAIN {token}", f"MAIL FROM:<{world.alice.address}>"):
            try:
                assert smtp.say(line).code // 100 == 5, smtp.transcript
            except ConnectionError:
                break


def test_a_message_larger_than_this_server_takes_is_refused_before_it_is_sent(world: World) -> None:
    # The relay's limit is smaller; what leaves is held to it by the gate (test_gate_outbound.py).
    with world.submission(world.alice) as smtp:
        refused = smtp.say(f"MAIL FROM:<{world.alice.address}> SIZE=25000001")
        assert refused.code == 552
        assert "exceeds" in refused.text


def test_a_message_that_turns_out_larger_than_announced_is_refused(world: World) -> None:
    with world.submission(world.alice) as smtp:
        smtp.say(f"MAIL FROM:<{world.alice.address}> SIZE=1000")
        smtp.say(f"RCPT TO:<{world.bob.address}>")
        refused = smtp.message("Subject: large\n\n" + ("0123456789" * 7 + "\n") * 360_000)
        assert refused.code == 552, refused
