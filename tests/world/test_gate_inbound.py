# Mail from outside: who wrote it is checked, written down for the reader, and decides where it has to.

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from conftest import World

from todoku.rehearsal.internet.plan import STATE
from todoku.rehearsal.internet.plan_file import read
from todoku.rehearsal.outside import Letter, compose
from todoku.rehearsal.smtp.dialogue import Reply

PLAN = STATE / "internet.json"


def results(message: object) -> list[str]:
    """The parts of our own Authentication-Results, the topmost one."""
    header = message["Authentication-Results"]  # type: ignore[index]
    return [part.strip() for part in str(header).split(";")]


def deliver(world: World, content: bytes, sender: str, to: str, *, source: str | None = None) -> Reply:
    """`content` over port 25; what was said at the end of it."""
    with world.port_25(source=source) as smtp:
        assert smtp.say(f"MAIL FROM:<{sender}>").code == 250
        assert smtp.say(f"RCPT TO:<{to}>").code == 250
        return smtp.message(content.decode().replace("\r\n", "\n"))


def written(author: str, subject: str, *more: str) -> bytes:
    lines = [
        f"From: {author}",
        f"Subject: {subject}",
        f"Message-ID: <{subject.replace(' ', '-')}@x.example>",
        *more,
    ]
    return "\n".join([*lines, "", "text", ""]).encode()


def test_the_reader_sees_what_was_found_out(world: World) -> None:
    sent = world.outside_sends(world.bob.address, "checked on arrival")
    assert sent.returncode == 0, sent.stdout
    host, *found = results(world.read(world.bob, "checked on arrival"))
    assert host == world.hostname
    assert f"spf=pass smtp.mailfrom={world.dave}" in found
    assert any(each.startswith("dkim=pass header.d=outside.example") for each in found)
    assert "dmarc=pass (p=reject) header.from=outside.example" in found


def test_results_that_somebody_wrote_in_our_name_do_not_reach_the_reader(world: World) -> None:
    forged = written(
        world.dave, "forged results",
        f"Authentication-Results: {world.hostname}; dmarc=pass header.from=bank.example",
        "Authentication-Results: mx.other.example; spf=pass smtp.mailfrom=x@y.example",
    )  # fmt: skip
    assert deliver(world, forged, world.dave, world.bob.address).code == 250
    message = world.read(world.bob, "forged results")
    all_of_them = "\n".join(map(str, message.get_all("Authentication-Results")))
    assert "bank.example" not in all_of_them
    assert "mx.other.example" in all_of_them


def test_a_stranger_who_claims_to_be_one_of_us_is_refused_in_words(world: World) -> None:
    for author in (f"Boss <{world.alice.address}>", f"{world.dave}, {world.alice.address}"):
        refused = deliver(world, written(author, "pay this"), world.dave, world.bob.address)
        assert refused.code == 550, refused
        assert refused.text.startswith("5.7.1 ")
        assert f"says that it is from {world.domain}, one of our own domains" in refused.text
        assert "SPF pass for outside.example" in refused.text
    assert world.count(world.bob, "pay this") == 0


def test_our_own_mail_that_comes_back_signed_is_delivered(world: World) -> None:
    world.submit(world.alice, world.carol, "there and back")
    signed = world.wait_for("there and back").raw
    # carol's provider passes it on to bob unchanged, from an address that is not the relay's
    assert deliver(world, signed, world.dave, world.bob.address).code == 250
    found = results(world.read(world.bob, "there and back"))
    assert any(each.startswith(f"dkim=pass header.d={world.domain}") for each in found)
    assert any(each.startswith("dmarc=pass") and world.domain in each for each in found)


def test_what_others_ask_to_refuse_is_refused_in_words(world: World) -> None:
    # From an address that outside.example does not send from, without a signature.
    spoofed = written(world.dave, "not from dave")
    refused = deliver(world, spoofed, world.dave, world.bob.address, source=world.ip)
    assert refused.code == 550, refused
    assert "outside.example, which asks by DMARC (p=reject)" in refused.text
    assert "SPF fail for outside.example, no DKIM signature" in refused.text
    assert world.count(world.bob, "not from dave") == 0


def test_a_signature_is_enough_where_the_address_is_not_the_domains(world: World) -> None:
    letter = Letter(world.dave, (world.bob.address,), "passed on by somebody")
    signed = compose(letter, read(PLAN))
    assert deliver(world, signed, world.dave, world.bob.address, source=world.ip).code == 250
    found = results(world.read(world.bob, "passed on by somebody"))
    assert f"spf=fail smtp.mailfrom={world.dave}" in found
    assert "dmarc=pass (p=reject) header.from=outside.example" in found


def test_what_people_here_write_to_each_other_is_not_judged(world: World) -> None:
    world.submit(world.alice, world.bob.address, "among ourselves")
    assert world.read(world.bob, "among ourselves")["Authentication-Results"] is None


def test_what_the_dns_gives_no_answer_to_is_held_back(world: World) -> None:
    (server,) = subprocess.run(["pgrep", "-x", "knotd"], capture_output=True, text=True).stdout.split()
    content = written("eve@never-asked-before.example", "no answer").decode()
    with world.port_25() as smtp:
        assert smtp.say(f"MAIL FROM:<{world.dave}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.bob.address}>").code == 250
        os.kill(int(server), signal.SIGSTOP)
        try:
            held = smtp.message(content)
        finally:
            os.kill(int(server), signal.SIGCONT)
        assert held.code == 451, held
        assert held.text.startswith("4.4.3 The DNS did not answer")
        # and the next try, with a DNS that answers, gets through
        assert smtp.say(f"MAIL FROM:<{world.dave}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.bob.address}>").code == 250
        assert smtp.message(content).code == 250
    found = results(world.read(world.bob, "no answer"))
    assert "dmarc=none header.from=never-asked-before.example" in found


def test_both_refusals_can_be_turned_off(world: World, settings_file: Path) -> None:
    table = "[gate]\nown_domain_check = false\nhonour_dmarc = false\n"
    before = settings_file.read_text()
    assert before.count("[gate]\n") == 1
    settings_file.write_text(before.replace("[gate]\n", table))
    world.apply()
    for author, subject in ((world.alice.address, "as if from alice"), (world.dave, "as if from dave")):
        assert deliver(world, written(author, subject), "x@mailbox.example", world.bob.address).code == 250
        found = results(world.read(world.bob, subject))
        assert any(each.startswith("dmarc=fail") for each in found), found
