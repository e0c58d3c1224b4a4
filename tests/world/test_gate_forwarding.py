# Mail that an alias leads outside arrives there, from everybody; what cannot be passed on is said to its sender at
# once; and bounces find their way back.

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import World, wait

from todoku.rehearsal.smtp.dialogue import Reply


@pytest.fixture
def alias(world: World) -> Iterator[str]:
    """An alias that leads to carol at her provider, and to bob here."""
    address = f"sales@{world.domain}"
    made = world.todoku("alias", "add", address, world.carol, world.bob.address)
    assert made.returncode == 0, made.stderr
    yield address
    world.todoku("alias", "remove", address)


def deliver(
    world: World, subject: str, to: str, *headers: str, sender: str | None = None, body: str = "text"
) -> Reply:
    sender = world.dave if sender is None else sender
    author = f'"Dave, of Outside" <{world.dave}>'
    lines = [
        f"From: {author}",
        f"Subject: {subject}",
        f"Message-ID: <{subject.replace(' ', '-')}@outside.example>",
    ]
    with world.port_25() as smtp:
        assert smtp.say(f"MAIL FROM:<{sender}>").code == 250
        accepted = smtp.say(f"RCPT TO:<{to}>")
        assert accepted.code == 250, accepted
        return smtp.message("\n".join([*lines, *headers, "", body, ""]))


def return_address(world: World, subject: str) -> str:
    """Under which envelope sender the copy left."""

    def find() -> str | None:
        found = re.findall(rf"from=<(bounces\+SRS0=[^>]*@{re.escape(world.domain)})>", world.log())
        return found[-1] if found else None

    return wait(find, f"the return address of {subject!r} in the log")


def test_it_arrives_with_dmarc_pass_though_the_writers_domain_says_reject(world: World, alias: str) -> None:
    sent = world.outside_sends(alias, "an enquiry")
    assert sent.returncode == 0, sent.stdout
    arrived = world.wait_for("an enquiry")
    assert arrived.judged["dmarc"]["result"] == "pass", arrived.judged
    assert arrived.judged["header_from"] == alias
    assert arrived.message["From"].addresses[0].display_name == f"{world.dave}"
    assert arrived.message["Reply-To"] == world.dave
    assert arrived.message["X-Todoku-Forwarded"] == alias
    assert arrived.message["X-Todoku-Passage"] is None  # the token of the gate is nobody else's to know
    # bob, who is here, gets it as it was written
    here = world.read(world.bob, "an enquiry")
    assert world.dave in here["From"]
    assert here["Reply-To"] is None
    assert world.count(world.bob, "an enquiry") == 1
    assert len([each for each in world.arrived() if each.message["Subject"] == "an enquiry"]) == 1


def test_the_writers_name_goes_along_and_his_reply_to_stays(world: World, alias: str) -> None:
    assert deliver(world, "named", alias, "Reply-To: desk@outside.example").code == 250
    message = world.wait_for("named").message
    assert message["From"].addresses[0].display_name == f"Dave, of Outside ({world.dave})"
    assert message["Reply-To"] == "desk@outside.example"


def test_an_alias_that_leads_outside_only_keeps_nothing_here(world: World) -> None:
    address = f"press@{world.domain}"
    assert world.todoku("alias", "add", address, world.carol).returncode == 0
    try:
        assert deliver(world, "all outside", address.upper().replace("PRESS", "Press+x")).code == 250
        assert world.wait_for("all outside").judged["header_from"] == address
        wait(lambda: not world.queue() or None, "an empty queue")
    finally:
        world.todoku("alias", "remove", address)


def test_our_own_people_write_through_the_alias_as_themselves(world: World, alias: str) -> None:
    world.submit(world.alice, alias, "from a colleague")
    assert world.wait_for("from a colleague").judged["header_from"] == world.alice.address


def test_what_is_too_large_for_the_relay_is_refused_with_both_figures(world: World, alias: str) -> None:
    refused = deliver(world, "too large", alias, body=("x" * 76 + "\n") * 28_000)
    assert refused.code == 552, refused
    assert f"{alias} leads to {world.carol}" in refused.text
    assert "2000000" in refused.text
    assert world.count(world.bob, "too large") == 0


def test_a_loop_is_cut(world: World, alias: str) -> None:
    refused = deliver(world, "round and round", alias, f"X-Todoku-Forwarded: {alias}")
    assert refused.code == 554, refused
    assert f"Mail loop: the message has been forwarded by {alias} before" in refused.text
    assert world.count(world.bob, "round and round") == 0


def test_a_message_that_comes_twice_is_passed_on_once(world: World, alias: str) -> None:
    for _ in range(2):  # the first reply got lost on its way, say
        assert deliver(world, "sent again", alias).code == 250
    world.wait_for("sent again")
    wait(lambda: not world.queue() or None, "an empty queue")
    assert len([each for each in world.arrived() if each.message["Subject"] == "sent again"]) == 1


def test_a_bounce_to_the_return_address_reaches_the_writer(world: World, alias: str) -> None:
    assert deliver(world, "will bounce later", alias).code == 250
    world.wait_for("will bounce later")
    back = return_address(world, "will bounce later")
    assert deliver(world, "Undelivered: will bounce later", back, sender="").code == 250
    bounce = world.wait_for("Undelivered: will bounce later", where=world.outside_inbox)
    assert bounce.judged["rcpt_to"] == world.dave
    assert bounce.judged["dmarc"]["result"] == "pass"
    assert bounce.judged["header_from"] == f"bounces@{world.domain}"
    assert world.count(world.alice, "Undelivered: will bounce later") == 0


def test_a_copy_that_the_relay_refuses_is_told_to_the_writer(world: World, alias: str) -> None:
    subject = "refused by the relay"
    world.relay(reply={"stage": "rcpt", "text": "550 5.1.1 no such mailbox there", "count": 1})
    assert deliver(world, subject, alias).code == 250

    def notice() -> str | None:
        return next(
            (
                a.raw.decode(errors="replace")
                for a in world.arrived(world.outside_inbox)
                if subject in a.raw.decode(errors="replace")
            ),
            None,
        )

    assert "no such mailbox there" in wait(notice, "a notice for dave", 40)


def test_return_addresses_are_for_bounces_and_cannot_be_made_up(world: World, alias: str) -> None:
    assert deliver(world, "for its return address", alias).code == 250
    world.wait_for("for its return address")
    back = return_address(world, "for its return address")
    refused = deliver(world, "not a bounce", back)
    assert refused.code == 550, refused
    assert "is for bounces only" in refused.text
    refused = deliver(world, "made up", back.replace("=dave@", "=victim@"), sender="")
    assert (refused.code, refused.text.split()[0]) == (550, "5.1.1")
    assert "was not given out by us" in refused.text


def test_mail_without_a_sender_leaves_with_one(world: World) -> None:
    import subprocess

    text = f"From: {world.alice.address}\nSubject: without a sender\n\ntext\n"
    subprocess.run(["sendmail", "-i", "-f", "", "--", world.carol], input=text, text=True, check=True)
    assert world.wait_for("without a sender").judged["header_from"] == world.alice.address
    assert f"from=<bounces@{world.domain}>" in world.log()


def test_the_door_for_copies_is_closed_to_everybody_else(world: World) -> None:
    import socket

    with pytest.raises(OSError, match="refused"):
        socket.create_connection((world.ip, 10027), 2)
