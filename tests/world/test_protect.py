# Attachments that leave are protected by policy, without their sender doing anything: the recipient gets a ZIP that the
# mail alone does not open, colleagues get the original, and nothing of it is lost or sent twice.

from __future__ import annotations

import io
import os
import re
import signal
import time
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

import pytest
import pyzipper
from conftest import CONFIG, Arrived, World, wait

from todoku.rehearsal.dialogue import Reply

POLICY = """
[protect]
on = true
default = "zip"

[[protect.rules]]
mode = "pass"
recipients = "{dave}"

[[protect.rules]]
mode = "refuse"
recipients = "never@{outside}"
"""
PDF = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def protects(the_world: World) -> Iterator[None]:
    before = CONFIG.read_text()
    outside = the_world.dave.rpartition("@")[2]
    policy = POLICY.format(dave=the_world.dave, outside=outside)
    CONFIG.write_text(before.replace("\n[protect]\n", policy))
    the_world.apply()
    yield
    CONFIG.write_text(before)
    the_world.apply()


def written(world: World, to: list[str], subject: str, *, text: str = "こんにちは\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = world.alice.address
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=world.domain)
    message["References"] = "<thread@outside.example>"
    message.set_content(text)
    message.add_attachment(PDF, "application", "pdf", filename="見積書.pdf")
    return message


def submit(world: World, message: EmailMessage, to: list[str]) -> Reply:
    with world.submission(world.alice) as smtp:
        assert smtp.say(f"MAIL FROM:<{world.alice.address}>").code == 250
        for recipient in to:
            assert smtp.say(f"RCPT TO:<{recipient}>").code == 250
        return smtp.message(message.as_string())


def send(world: World, to: list[str], subject: str) -> EmailMessage:
    message = written(world, to, subject)
    reply = submit(world, message, to)
    assert reply.code == 250, reply
    return message


def password(world: World, subject: str) -> str:
    notice = world.read(world.alice, subject)
    found = re.search(r"(?:パスワード|Password): (\S+)", notice.get_content())
    assert found, notice.get_content()
    return found[1]


def unpacked(arrived: Arrived, word: str) -> dict[str, bytes]:
    (packed,) = [p for p in arrived.message.iter_attachments() if p.get_content_type() == "application/zip"]
    with pyzipper.AESZipFile(io.BytesIO(packed.get_content())) as archive:
        archive.setpassword(word.encode())
        return {name: archive.read(name) for name in archive.namelist()}


def copies(world: World, subject: str, where: Path | None = None) -> list[Arrived]:
    return [each for each in world.arrived(where) if each.message["Subject"] == subject]


def test_one_message_for_inside_protected_and_passed(protects: None, world: World) -> None:
    to = [world.bob.address, world.carol, world.dave]
    sent = send(world, to, "#zip three ways")
    # the word asks for dave as well, whose rule says pass
    arrived = world.wait_for("three ways")
    assert unpacked(arrived, password(world, "three ways")) == {"見積書.pdf": PDF}
    assert b"AAECAwQFBgcICQoLDA0ODxAREhMU" not in arrived.raw  # how the file begins in base64
    assert arrived.judged["dmarc"]["result"] == "pass", arrived.judged
    assert arrived.message["Message-ID"] == sent["Message-ID"]
    assert arrived.message["References"] == sent["References"]
    assert arrived.message["X-Todoku-Protected"] is None
    texts = [part.get_content() for part in arrived.message.walk() if part.get_content_type() == "text/plain"]
    assert "見積書.pdf" in texts[1]
    to_dave = world.wait_for("three ways", where=world.outside_inbox)
    assert to_dave.judged["dmarc"]["result"] == "pass"
    assert set(unpacked(to_dave, password(world, "three ways"))) == {"見積書.pdf"}
    (original,) = world.read(world.bob, "three ways").iter_attachments()
    assert original.get_content() == PDF


def test_who_gets_the_original_and_who_nothing(protects: None, world: World) -> None:
    send(world, [world.dave], "as it was")
    (passed,) = world.wait_for("as it was", where=world.outside_inbox).message.iter_attachments()
    assert passed.get_content() == PDF
    never = f"never@{world.dave.rpartition('@')[2]}"
    refused = submit(world, written(world, [never, world.carol], "to nobody"), [never, world.carol])
    assert (refused.code, refused.text.split()[0]) == (550, "5.7.1")
    assert f"Attachments may not be sent to {never} (a rule for never@" in refused.text
    assert not copies(world, "to nobody")


def test_what_came_before_is_not_made_twice(protects: None, world: World) -> None:
    message = written(world, [world.carol], "sent again")
    for _ in range(2):  # the first answer got lost, say
        assert submit(world, message, [world.carol]).code == 250
    world.wait_for("sent again")
    wait(lambda: not world.queue() or None, "an empty queue")
    assert len(copies(world, "sent again")) == 1


def test_a_header_that_somebody_made_up_opens_nothing(protects: None, world: World) -> None:
    message = written(world, [world.carol], "made up")
    message["X-Todoku-Protected"] = "0123.0 " + "0" * 64
    assert submit(world, message, [world.carol]).code == 250
    arrived = world.wait_for("made up")
    assert unpacked(arrived, password(world, "made up"))
    assert arrived.message["X-Todoku-Protected"] is None


def gate_processes() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() == "todoku-gate":
                found.append(int(folder.name))
        except OSError:
            continue
    return found


# slow: each of the twelve kills waits for supervisord to start the gate anew
@pytest.mark.slow
def test_kill_9_at_any_moment_loses_and_doubles_nothing(protects: None, world: World) -> None:
    for number in range(12):
        message = written(world, [world.carol], f"killed {number}")
        if number % 2:  # in the middle of this message
            _kill_soon(0.005 * number)
        wait(lambda message=message: _accepted(world, message), "the gate to be back")  # type: ignore[misc]
        if not number % 2:  # while its copies are handed over
            time.sleep(0.004 * number)
            _kill()
    for number in range(12):
        world.wait_for(f"killed {number}", 40)
    wait(lambda: not list(Path("/var/lib/todoku/gate/protect/outgoing").iterdir()), "all handed over", 40)
    wait(lambda: not world.queue(), "an empty queue", 40)
    assert [len(copies(world, f"killed {number}")) for number in range(12)] == [1] * 12


def _accepted(world: World, message: EmailMessage) -> bool:
    try:
        return submit(world, message, [world.carol]).code == 250
    except (OSError, AssertionError):
        return False


def _kill() -> None:
    for process in gate_processes():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _kill_soon(seconds: float) -> None:
    if os.fork() == 0:
        try:
            time.sleep(seconds)
            _kill()
        finally:
            os._exit(0)
