"""Messages as programs write them, taken apart and put together anew."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterable
from email.message import EmailMessage

from todoku.protect import attachments, mime
from todoku.protect.attachments import Attachment
from todoku.protect.composing import Added, composed, text_part
from todoku.protect.mime import Part


def split(raw: bytes) -> tuple[bytes, bytes]:
    """Header block and body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return head + b"\r\n", body


def headers(block: bytes) -> list[tuple[str, str]]:
    """As the gate has them."""
    lines = (
        block.decode("utf-8", "surrogateescape")
        .replace("\r\n", "\n")
        .replace("\n ", "\0 ")
        .replace("\n\t", "\0\t")
    )
    made = []
    for line in lines.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name:
            made.append((name, value.replace("\0", "\n")))
    return made


def read(raw: bytes) -> tuple[Part, bytes]:
    head, body = split(raw)
    return mime.read(head, body), body


def found(raw: bytes) -> dict[str, bytes]:
    """The attachments by name, decoded."""
    part, body = read(raw)
    return {each.name: b"".join(attachments.content(each.part, body)) for each in attachments.found(part)}


def without(
    raw: bytes, added: Iterable[Added] = (), which: Callable[[Attachment], bool] = lambda _: True
) -> EmailMessage:
    """The message without its attachments, read by Python's own parser."""
    head, body = split(raw)
    part = mime.read(head, body)
    removed = [each.part for each in attachments.found(part) if which(each)]
    made = b"".join(composed(headers(head), part, body, removed, added or [text_part("instead\n")]))
    message = email.message_from_bytes(made, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def office() -> EmailMessage:
    """Text, HTML with an image in it, two files and a winmail.dat."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = "alice@hoge.example"
    message["To"] = "carol@outside.example"
    message["Subject"] = "見積書"
    message["Message-ID"] = "<one@hoge.example>"
    message.set_content("こんにちは\n")
    message.add_alternative('<p>こんにちは <img src="cid:logo"></p>', subtype="html")
    message.get_payload()[1].add_related(b"\x89PNG logo", "image", "png", cid="<logo>", disposition="inline")
    message.add_attachment(bytes(range(256)) * 50, "application", "pdf", filename="見積書 2026.pdf")
    message.add_attachment("a,b\n1,2\n", subtype="csv", filename="list.csv")
    message.add_attachment(b"x\x9f>\x22tnef", "application", "ms-tnef", filename="winmail.dat")
    return message
