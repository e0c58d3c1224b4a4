# A printer cannot log in. It may send from its own address and under its own sender, and nobody else may.

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import World

PRINTER = "192.168.77.1"  # an address of the world's office link, on this side of it


@pytest.fixture
def printer(world: World, settings_file: Path) -> str:
    sender = f"printer@{world.domain}"
    settings_file.write_text(
        settings_file.read_text() + f'\n[[devices]]\naddress = "{PRINTER}"\nsender = "{sender}"\n'
    )
    world.apply()
    return sender


def test_a_listed_device_sends_as_its_sender_and_as_nobody_else(world: World, printer: str) -> None:
    with world.port_25(source=PRINTER, helo="KONICA-42") as smtp:
        assert smtp.say(f"MAIL FROM:<{printer}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250, smtp.transcript
        head = f"From: {printer}\nTo: {world.carol}\nSubject: scan 1\nDate: Tue, 24 Nov 2026 00:00:00 +0000\n"
        assert smtp.message(f"{head}Message-ID: <scan1@printer>\n\nscan\n").code == 250
    assert world.wait_for("scan 1").judged["dmarc"]["result"] == "pass"
    for forged in (world.alice.address, world.dave, ""):
        with world.port_25(source=PRINTER, helo="KONICA-42") as smtp:
            smtp.say(f"MAIL FROM:<{forged}>")
            refused = smtp.say(f"RCPT TO:<{world.carol}>")
            assert refused.code // 100 == 5, smtp.transcript
            assert printer in refused.text, "the refusal names the sender that the device may use"


def test_nobody_else_may_use_the_devices_sender(world: World, printer: str) -> None:
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{printer}>")
        refused = smtp.say(f"RCPT TO:<{world.carol}>")
        assert refused.code == 554
        assert "Relay access denied" in refused.text


def test_without_devices_in_the_settings_none_may(world: World) -> None:
    with world.port_25(source=PRINTER, helo="mail.outside.example") as smtp:
        smtp.say(f"MAIL FROM:<printer@{world.domain}>")
        assert smtp.say(f"RCPT TO:<{world.carol}>").code == 554
