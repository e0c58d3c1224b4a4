# What leaves can pass the relay, and is refused at once, in words, if it cannot: people learn it from their mail
# program while they still have the message before them.

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Account, World

from todoku.rehearsal.smtp.dialogue import Reply

APPROVED = Path("/var/lib/todoku/gate/approved")


def _send(world: World, account: Account, message: str, *recipients: str) -> Reply:
    """The answer to the whole message, submitted with the account's own envelope sender."""
    with world.submission(account) as smtp:
        assert smtp.say(f"MAIL FROM:<{account.address}>").code == 250
        for recipient in recipients or (world.carol,):
            assert smtp.say(f"RCPT TO:<{recipient}>").code == 250
        return smtp.message(message)


# --- who it is from ---


def test_nobody_writes_in_the_name_of_a_colleague(world: World) -> None:
    alice, bob = world.alice, world.bob
    refused = _send(world, alice, f"From: Bob <{bob.address}>\nTo: {world.carol}\nSubject: forged\n\ntext\n")
    assert refused.code == 550, refused
    assert f"5.7.1 From says {bob.address}, and {alice.login} may send as {alice.address}, " in refused.text
    assert refused.text.count(bob.address) == 1, (
        "what she may send as is listed, and his address is not there"
    )


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("From: {alice}\nFrom: {alice}\n", "The message has 2 From headers"),
        ("From: {alice}, {bob}\n", "From has 2 addresses"),
        ("From: Friends: {alice};\n", "From has a group of addresses"),
        ("From: {alice} <{bob}>\n", "From has an address without quotes in the place of the name"),
        ("From: {alice}\nSender: {bob}\n", "Sender says {bob}"),
    ],
)
def test_what_is_not_surely_the_logins_own_address_is_refused(world: World, head: str, words: str) -> None:
    names = {"alice": world.alice.address, "bob": world.bob.address}
    refused = _send(world, world.alice, f"{head.format(**names)}To: {world.carol}\nSubject: odd\n\ntext\n")
    assert refused.code == 550, refused
    assert words.format(**names) in refused.text


def test_a_message_without_from_is_from_the_envelope_sender(world: World) -> None:
    # Postfix adds what is missing (local_header_rewrite_clients) before the gate sees it.
    assert _send(world, world.alice, f"To: {world.carol}\nSubject: no From\n\ntext\n").code == 250
    assert world.wait_for("no From").judged["header_from"] == world.alice.address


def test_the_recipient_sees_the_name_and_the_address_as_they_were_written(world: World) -> None:
    written = f'"Alice, of sales" <{world.alice.address}> (at work)'
    assert (
        _send(world, world.alice, f"From: {written}\nTo: {world.carol}\nSubject: as written\n\nhi\n").code
        == 250
    )
    arrived = world.wait_for("as written")
    assert arrived.message["From"].addresses[0].display_name == "Alice, of sales"
    assert arrived.judged["dmarc"]["result"] == "pass"


def test_a_further_address_may_be_used_from_the_moment_it_is_given(world: World) -> None:
    further = f"orders@{world.domain}"
    message = f"From: {further}\nTo: {world.bob.address}\nSubject: further address\n\ntext\n"
    assert _send(world, world.alice, message, world.bob.address).code == 550
    assert world.todoku("account", "address", "add", world.alice.address, further).returncode == 0
    try:
        time.sleep(1.1)  # the book is looked at once a second
        assert _send(world, world.alice, message, world.bob.address).code == 250
        assert world.read(world.bob, "further address")["From"] == further
    finally:
        world.todoku("account", "address", "remove", world.alice.address, further)


def test_who_was_granted_it_sends_as_a_colleague_until_it_is_revoked(world: World) -> None:
    # The owner of a company has her assistant answer in her name, from his own mail program.
    alice, bob = world.alice, world.bob

    def as_alice(subject: str) -> Reply:
        with world.submission(bob) as smtp:
            if (sender := smtp.say(f"MAIL FROM:<{alice.address}>")).code != 250:
                return sender
            assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250
            return smtp.message(f"From: Alice <{alice.address}>\nSubject: {subject}\n\ntext\n")

    assert "not owned by user" in as_alice("not yet").text
    assert world.todoku("account", "send-as", "grant", bob.address, alice.address).returncode == 0
    try:
        time.sleep(1.1)  # the book is looked at once a second
        assert as_alice("in her name").code == 250
        arrived = world.wait_for("in her name")
        assert arrived.judged["header_from"] == alice.address
        assert arrived.judged["dmarc"]["result"] == "pass"
        forged = f"From: dave@{world.domain}\nTo: {world.carol}\nSubject: as nobody\n\ntext\n"
        refused = _send(world, bob, forged)
        assert refused.code == 550, refused
        words = " ".join(refused.text.split())
        assert f"{bob.login} may send as {bob.address}, " in words
        assert alice.address in words
        assert world.todoku("account", "send-as", "grant", bob.address, f"@{world.domain}").returncode == 0
        time.sleep(1.1)
        assert _send(world, bob, forged).code == 250
        assert world.wait_for("as nobody").judged["header_from"] == f"dave@{world.domain}"
    finally:
        for sender in (alice.address, f"@{world.domain}"):
            world.todoku("account", "send-as", "revoke", bob.address, sender)
    time.sleep(1.1)
    assert "not owned by user" in as_alice("not any more").text
    refused = _send(world, bob, forged)
    assert refused.code == 550, refused


@pytest.fixture
def only_bob_is_approved(world: World) -> Iterator[None]:
    before = APPROVED.read_bytes() if APPROVED.exists() else None
    APPROVED.write_text(f"{world.bob.address}\n")
    APPROVED.chmod(0o644)
    time.sleep(1.1)
    yield
    if before is None:
        APPROVED.unlink()
    else:
        APPROVED.write_bytes(before)
    time.sleep(1.1)


def test_a_sender_that_the_relay_does_not_know_is_told_what_to_do(
    world: World, only_bob_is_approved: None
) -> None:
    alice, bob = world.alice, world.bob
    text = "From: {}\nTo: {}\nSubject: {}\n\ntext\n"
    refused = _send(world, alice, text.format(alice.address, world.carol, "not approved"))
    assert refused.code == 550, refused
    assert f"does not know the sender {alice.address}" in refused.text
    assert "`todoku apply`" in refused.text
    assert _send(world, bob, text.format(bob.address, world.carol, "approved")).code == 250
    assert world.wait_for("approved").judged["header_from"] == bob.address
    assert _send(world, alice, text.format(alice.address, bob.address, "inside"), bob.address).code == 250
    world.read(bob, "inside")


RECEIPT = """From: {author}
To: {to}
Subject: {subject}
MIME-Version: 1.0
Content-Type: multipart/report; report-type=disposition-notification; boundary="b"

--b
Content-Type: text/plain

Your message was displayed.
--b
Content-Type: message/disposition-notification

Final-Recipient: rfc822;{author}
Disposition: manual-action/MDN-sent-manually; displayed
--b--
"""


def test_a_read_receipt_which_has_no_sender_leaves_with_one_and_arrives(world: World) -> None:
    def receipt(author: str, subject: str, to: str) -> Reply:
        with world.submission(world.alice) as smtp:
            assert smtp.say("MAIL FROM:<>").code == 250
            assert smtp.say(f"RCPT TO:<{to}>").code == 250
            return smtp.message(RECEIPT.format(author=author, to=to, subject=subject))

    assert receipt(world.alice.address, "Read: offer", world.carol).code == 250
    arrived = world.wait_for("Read: offer")
    assert arrived.judged["dmarc"]["result"] == "pass"
    assert arrived.judged["header_from"] == world.alice.address
    assert f"from=<bounces@{world.domain}>" in world.log()
    # inside, it stays without one, so that nothing answers it
    assert receipt(world.alice.address, "Read: memo", world.bob.address).code == 250
    assert world.read(world.bob, "Read: memo")["Return-Path"] == "<>"
    refused = receipt(world.bob.address, "Read: forged", world.carol)
    assert refused.code == 550, refused
    assert f"From says {world.bob.address}" in refused.text


# --- what it looks like ---


def _large(world: World, to: str, subject: str) -> str:
    lines = ("0123456789" * 7 + "\n") * 30_000  # 2.2 MB
    return f"From: {world.alice.address}\nTo: {to}\nSubject: {subject}\n\n{lines}"


def test_a_message_too_large_for_the_relay_is_refused_with_both_figures(world: World) -> None:
    with world.submission(world.alice) as smtp:
        offered = smtp.say("EHLO laptop").text
        assert "SIZE 25000000" in offered
    refused = _send(world, world.alice, _large(world, world.carol, "large"), world.bob.address, world.carol)
    assert refused.code == 552, refused
    assert "5.3.4 The message has 2,1" in refused.text or "5.3.4 The message has 2,2" in refused.text
    assert f"mail to {world.carol} leaves through the relay, which takes 2,000,000" in refused.text


def test_the_same_message_passes_inside(world: World) -> None:
    to = world.bob.address
    assert _send(world, world.alice, _large(world, to, "large, but inside"), to).code == 250
    world.read(world.bob, "large, but inside")


@pytest.mark.parametrize(
    ("header", "code", "words"),
    [
        ("Subject: again", 550, "5.6.0 The message has 2 Subject headers; RFC 5322 3.6 allows one"),
        ("X-Name: ほげ", 550, "5.6.7 The header X-Name has characters beyond US-ASCII"),
        ("\n".join(f"X-{n}: {'x' * 900}" for n in range(300)), 552, "the relay takes 262,144 (256 KiB)"),
    ],
)
def test_headers_that_others_would_stumble_over_are_refused(
    world: World, header: str, code: int, words: str
) -> None:
    refused = _send(world, world.alice, f"From: {world.alice.address}\nSubject: form\n{header}\n\ntext\n")
    assert refused.code == code, refused
    assert words in refused.text


def test_date_and_message_id_are_there_when_the_message_arrives(world: World) -> None:
    assert _send(world, world.alice, f"From: {world.alice.address}\nSubject: bare\n\ntext\n").code == 250
    arrived = world.wait_for("bare")
    assert arrived.message["Date"].datetime is not None
    assert str(arrived.message["Message-ID"]).rstrip(">").endswith(world.domain)
    assert len(arrived.message.get_all("Date", [])) == len(arrived.message.get_all("Message-ID", [])) == 1
    assert arrived.judged["dmarc"]["result"] == "pass"


def test_neither_the_program_nor_the_address_of_the_sender_reaches_the_recipient(world: World) -> None:
    telling = "User-Agent: Thunderbird\nX-Mailer: Outlook\nX-Originating-IP: [10.1.2.3]\nX-Kept: yes\n"
    head = f"From: {world.alice.address}\nTo: {world.bob.address}\nSubject: discreet\n{telling}"
    assert _send(world, world.alice, f"{head}\ntext\n", world.bob.address, world.carol).code == 250
    for seen in (world.wait_for("discreet").message, world.read(world.bob, "discreet")):
        for name in ("User-Agent", "X-Mailer", "X-Originating-IP"):
            assert seen[name] is None
        assert seen["X-Kept"] == "yes"


def test_the_subject_of_a_script_is_encoded_instead_of_refused(world: World) -> None:
    subject = "ディスクの残りが少なくなりました"
    message = f"To: {world.carol}\nSubject: {subject}\n\ntext\n"
    subprocess.run(["/usr/sbin/sendmail", "-oi", world.carol], input=message, text=True, check=True)
    assert world.wait_for(subject).raw.partition(b"\r\n\r\n")[0].isascii()


# --- how much ---


def test_an_account_that_sends_too_fast_is_told_until_when(world: World, settings_file: Path) -> None:
    text = settings_file.read_text()
    assert "recipients_per_minute = 1000" in text  # what the world's tests run with
    settings_file.write_text(text.replace("recipients_per_minute = 1000", "recipients_per_minute = 3"))
    world.apply()
    message = f"From: {world.bob.address}\nTo: {world.carol}\nSubject: fast\n\ntext\n"
    replies = [_send(world, world.bob, message) for _ in range(4)]
    held = replies[-1]
    assert held.code == 451, replies
    assert f"4.7.1 {world.bob.login} has 3 recipients a minute" in held.text
    assert "this message can be sent from 20" in held.text
    # what stays here costs nothing
    assert _send(world, world.bob, message, world.alice.address).code == 250


def test_when_the_plan_of_the_relay_is_used_up_everybody_is_told(world: World, settings_file: Path) -> None:
    message = f"From: {world.alice.address}\nTo: {world.carol}\nSubject: last of the plan\n\ntext\n"
    assert _send(world, world.alice, message).code == 250
    text = settings_file.read_text()
    assert "per_month = 1500000" in text
    settings_file.write_text(
        text.replace("per_month = 1500000", "per_month = 1")
        .replace("per_day = 50000", "per_day = 1")
        .replace("per_minute = 18000", "per_minute = 1")
    )
    world.apply()
    held = _send(world, world.alice, message)
    assert held.code == 451, held
    assert "4.7.1 the plan of the relay has 1 emails in 31 days, and they are used up" in held.text.replace(
        "\n", " "
    )
