# Complaint: "I cannot get my phone to fetch the mail." What `todoku account setup` writes works as it is written.

from __future__ import annotations

import imaplib
import json
import plistlib
import smtplib
from pathlib import Path
from xml.etree import ElementTree

from conftest import World


def reads_and_sends(
    world: World, imap: tuple[str, int], smtp: tuple[str, int], user: str, password: str
) -> None:
    """By the values that a program was given, and no others."""
    with imaplib.IMAP4_SSL(*imap, ssl_context=world.tls()) as incoming:
        assert incoming.login(user, password)[0] == "OK"
    with smtplib.SMTP_SSL(*smtp, context=world.tls()) as outgoing:
        assert outgoing.login(user, password)[0] == 235


def test_each_form_of_it_works_as_it_is_written(world: World, tmp_path: Path) -> None:
    profile, configuration = tmp_path / "alice.mobileconfig", tmp_path / "config-v1.1.xml"
    options = ("--mobileconfig", str(profile), "--autoconfig", str(configuration))
    done = world.todoku("account", "setup", world.alice.address, *options, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    password = world.alice.password

    imap, smtp = told["imap"], told["smtp"]
    reads_and_sends(
        world, (imap["host"], imap["port"]), (smtp["host"], smtp["port"]), told["login"], password
    )

    apple = plistlib.loads(profile.read_bytes())["PayloadContent"][0]
    reads_and_sends(
        world,
        (apple["IncomingMailServerHostName"], apple["IncomingMailServerPortNumber"]),
        (apple["OutgoingMailServerHostName"], apple["OutgoingMailServerPortNumber"]),
        apple["IncomingMailServerUsername"],
        password,
    )

    provider = ElementTree.fromstring(configuration.read_text()).find("emailProvider")  # noqa: S314
    assert provider is not None

    def server(kind: str) -> tuple[str, int]:
        return str(provider.findtext(f"{kind}/hostname")), int(str(provider.findtext(f"{kind}/port")))

    user = str(provider.findtext("incomingServer/username")).replace("%EMAILADDRESS%", world.alice.address)
    reads_and_sends(world, server("incomingServer"), server("outgoingServer"), user, password)

    _, _, incoming, [[outgoing, identity]] = json.loads(told["qr"])
    reads_and_sends(world, tuple(incoming[1:3]), tuple(outgoing[1:3]), incoming[5], password)
    assert identity[0] == world.alice.address
    for file in (profile, configuration):
        assert password not in file.read_text()


def test_people_can_read_it_and_scan_it(world: World) -> None:
    said = world.todoku("account", "setup", world.alice.address).stdout
    assert f"IMAP   {world.hostname}   port 993" in said
    assert "self-signed" in said
    assert said.count("\u2588") > 100  # the code
    refused = world.todoku("account", "setup", "nobody@hoge.example")
    assert refused.returncode != 0
    assert "nobody@hoge.example" in refused.stderr
