"""Mail from outside with a password-protected ZIP, and what its addressee does with the notice that he gets instead."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import dkim
import pyzipper
from conftest import Account, World
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from test_protect import link_in

MESSAGES = Path("/var/lib/todoku/quarantine/messages")
PDF = bytes(range(256)) * 400
PASSWORD = "合言葉 2026"


def packed(content: bytes = PDF) -> bytes:
    made = io.BytesIO()
    with pyzipper.AESZipFile(
        made, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES
    ) as archive:
        archive.setpassword(PASSWORD.encode())
        archive.writestr("見積書.pdf", content)
    return made.getvalue()


def written(world: World, subject: str, attachment: bytes, text: str = "Please see.\n") -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = f"Dave <{world.dave}>"
    message["To"] = world.bob.address
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="outside.example")
    message.set_content(text, cte="base64")
    message.add_attachment(attachment, "application", "zip", filename="見積.zip")
    return message.as_bytes()


def deliver(world: World, raw: bytes, *to: str) -> None:
    with world.port_25() as smtp:
        assert smtp.say(f"MAIL FROM:<{world.dave}>").code == 250
        for recipient in to:
            assert smtp.say(f"RCPT TO:<{recipient}>").code == 250
        reply = smtp.message(raw.decode("ascii").replace("\r\n", "\n"))
        assert reply.code == 250, reply


def asked(world: World, account: Account, subject: str) -> str:
    """The link in the notice that the addressee got."""
    return link_in(world.read(account, subject), "h")


def give(world: World, link: str, password: str = PASSWORD, method: str = "POST") -> tuple[int, str]:
    place = urlsplit(link)
    connection = HTTPSConnection(place.hostname or "", place.port, context=world.tls(), timeout=60)
    body = urlencode({"password": password}) if method == "POST" else None
    connection.request(method, place.path, body, {"Accept-Language": "en"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def signed(raw: bytes) -> tuple[bytes, Callable[..., bytes]]:
    """The message with a DKIM signature, and what the DNS would say of its key."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    header: bytes = dkim.sign(raw, b"s", b"signed.example", pem, canonicalize=(b"simple", b"simple"))
    return header + raw, lambda *_, **__: record


def raw_message(world: World, account: Account, subject: str) -> bytes:
    """As it lies in the mailbox."""
    with world.imap(account) as imap:
        imap.select("INBOX", readonly=True)
        numbers = imap.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
        parts = imap.fetch(numbers[-1].decode(), "(BODY.PEEK[])")[1]
        assert isinstance(parts[0], tuple)
        return bytes(parts[0][1])


def held(world: World, subject: str) -> dict[str, Any]:
    """What the operator is told of it."""
    done = world.todoku("protect", "held", "list", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = [each for each in json.loads(done.stdout)["held"] if each["subject"] == subject]
    assert isinstance(found, dict)
    return found


def processes() -> dict[int, str]:
    """Those of the service, with their names."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if name in ("todoku-held", "todoku-unpack"):
            found[int(folder.name)] = name
    return found


def kill_all() -> None:
    for number in processes():
        try:
            os.kill(number, 9)
        except ProcessLookupError:
            continue
