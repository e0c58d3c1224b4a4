# "Is it an open relay?" is the first thing anybody tries on a new mail host. None of the usual tricks may work:
# not from outside, and not with a password either when the sender is forged.

from __future__ import annotations

import pytest
from conftest import World

VICTIM = "carol%mailbox.example"


@pytest.mark.parametrize(
    "recipient",
    [
        "<carol@mailbox.example>",
        "<carol%mailbox.example@{domain}>",
        "<carol%mailbox.example@{hostname}>",
        "<carol%mailbox.example>",
        "<carol@mailbox.example@{domain}>",
        '<"carol@mailbox.example"@{domain}>',
        '<"carol%mailbox.example"@{domain}>',
        '<"carol@mailbox.example">',
        "<mailbox.example!carol>",
        "<mailbox.example!carol@{domain}>",
        "<{domain}!mailbox.example!carol>",
        "<@{domain}:carol@mailbox.example>",
        "<@{hostname}:carol@mailbox.example>",
        "<@mailbox.example:carol@{domain}>",
        "<carol@[198.51.100.25]>",
        "<carol%mailbox.example@[{ip}]>",
        "<carol@mailbox.example.>",
        "<CAROL@MAILBOX.EXAMPLE>",
        "carol@mailbox.example",
    ],
)
@pytest.mark.parametrize("sender", ["<dave@outside.example>", "<>", "<alice@{domain}>", "<root@{hostname}>"])
def test_the_usual_tricks_do_not_relay(world: World, sender: str, recipient: str) -> None:
    names = {"domain": world.domain, "hostname": world.hostname, "ip": world.ip}
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:{sender.format(**names)}")
        refused = smtp.say(f"RCPT TO:{recipient.format(**names)}")
        assert refused.code // 100 in (4, 5), "\n".join(smtp.transcript)
        assert smtp.say("DATA").code // 100 in (4, 5), "\n".join(smtp.transcript)


def test_relaying_is_refused_in_words(world: World) -> None:
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        refused = smtp.say(f"RCPT TO:<{world.carol}>")
        assert refused.code == 554
        assert "Relay access denied" in refused.text


def test_our_own_address_does_not_relay_even_over_loopback(world: World) -> None:
    # "permit_mynetworks" is how most open relays begin: a program on the host, or a proxy in front of it.
    with world.port_25(source=world.ip, helo=world.hostname) as smtp:
        smtp.say(f"MAIL FROM:<{world.alice.address}>")
        refused = smtp.say(f"RCPT TO:<{world.carol}>")
        assert refused.code == 554
        assert "Relay access denied" in refused.text


def test_submission_without_a_password_relays_nothing(world: World) -> None:
    with world.submission(None) as smtp:
        smtp.say(f"MAIL FROM:<{world.alice.address}>")
        refused = smtp.say(f"RCPT TO:<{world.carol}>")
        assert refused.code // 100 == 5, refused
