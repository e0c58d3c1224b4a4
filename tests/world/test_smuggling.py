# SMTP smuggling (CVE-2023-51764): two servers that disagree about where a message ends let a sender forge a
# second one. Each variant is either refused or read as the one message that it is.

from __future__ import annotations

import time

import pytest
from conftest import World

VARIANTS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CRLF.CR": b"\r\n.\r",
    "NUL": b"\r\n\0.\r\n",
}


def _smuggled(world: World, end: bytes, subject: str, first: str) -> bytes:
    second = (
        f"MAIL FROM:<{world.alice.address}>\r\nRCPT TO:<{world.bob.address}>\r\nDATA\r\n"
        f"From: {world.alice.address}\r\nTo: {world.bob.address}\r\nSubject: smuggled {subject}\r\n\r\nforged"
    )
    head = f"From: {first}\r\nTo: {world.bob.address}\r\nSubject: carrier {subject}\r\n\r\ntext"
    return head.encode() + end + second.encode() + b"\r\n.\r\n"


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_is_smuggled_through_port_25(world: World, name: str) -> None:
    subject = f"{name.replace('.', '-')} by 25"
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        assert smtp.say(f"RCPT TO:<{world.bob.address}>").code == 250
        reply = smtp.message(_smuggled(world, VARIANTS[name], subject, world.dave))
        _only_one_message(world, name, reply.code, subject)


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_is_smuggled_through_587(world: World, name: str) -> None:
    subject = f"{name.replace('.', '-')} by 587"
    with world.submission(world.bob) as smtp:
        assert smtp.say(f"MAIL FROM:<{world.bob.address}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.bob.address}>").code == 250
        reply = smtp.message(_smuggled(world, VARIANTS[name], subject, world.bob.address))
        _only_one_message(world, name, reply.code, subject)


def test_a_bare_line_feed_is_refused_by_its_name(world: World) -> None:
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        smtp.say(f"RCPT TO:<{world.bob.address}>")
        reply = smtp.message(b"Subject: bare\r\n\r\none\ntwo\r\n.\r\n")
        assert reply.code == 550
        assert "bare <LF>" in reply.text


def _only_one_message(world: World, name: str, code: int, subject: str) -> None:
    if b"\n" in VARIANTS[name].replace(b"\r\n", b""):
        assert code == 550, f"{name} has a bare line feed and was answered {code}"
    if code == 250:
        world.read(world.bob, f"carrier {subject}")
    time.sleep(0.2)
    # The subject of a smuggled message would stand in a header of its own; in the carrier's body it is only text.
    assert world.count(world.bob, f"smuggled {subject}") == 0
