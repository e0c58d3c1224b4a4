"""The copy of a message that the relay takes: From is one of ours and says whose it was, answers go to the writer.

The relay refuses every From that is not an approved sender of ours, and a receiver every one whose domain asks so
by DMARC. So `From: Dave <dave@outside.example>` becomes `From: "Dave (dave@outside.example)" <sales@hoge.example>`
with `Reply-To: dave@outside.example`, unless there is a Reply-To already.
"""

from __future__ import annotations

import email.header
import re
from email.utils import formatdate

from todoku.gate import passage
from todoku.gate.authors import authors
from todoku.gate.message import MessageSoFar

PASSED = "X-Todoku-Forwarded"  # by which addresses it has passed: how a loop is seen
# A signature of the original From says nothing about the new one; a return path is set at delivery.
_LEFT_OUT = {"dkim-signature", "return-path", "from", passage.NAME.lower(), passage.NOTE.lower()}
_HARMLESS = re.compile(r"[A-Za-z0-9 ._'@(),:!?/&+=-]*")
_LONGEST = 200


def passed(message: MessageSoFar, address: str) -> bool:
    """Whether the message has already been forwarded by `address`."""
    return any(header.text.lower() == address.lower() for header in message.headers.all(PASSED))


def copy(message: MessageSoFar, address: str, hostname: str, now: float, *, answerable: bool = True) -> bytes:
    """The message as `address` of ours passes it on; without `answerable` there is no Reply-To."""
    name, author = writer(message)
    lines = [
        _trace(message, hostname, now),
        f"{passage.NAME}: {passage.TOKEN}",
        f"{PASSED}: {address}",
        f"From: {shown(name, author)} <{address}>",
    ]
    if answerable and author and not message.headers.all("Reply-To"):
        lines.append(f"Reply-To: {author}")
    lines += [
        f"{header.name}:{header.value}" for header in message.headers if header.name.lower() not in _LEFT_OUT
    ]
    block = "\n".join(lines).replace("\r\n", "\n").replace("\n", "\r\n")
    return b"".join((block.encode("utf-8", "surrogateescape"), b"\r\n\r\n", *message.body_chunks()))


def writer(message: MessageSoFar) -> tuple[str, str]:
    """Display name and address of the (first) author; empty where they cannot be read."""
    for name, address in authors(message.headers.first("From") or ""):
        if address.isascii() and address.isprintable():
            return name, address
    return "", ""


def shown(name: str, author: str) -> str:
    """The display name that tells who wrote: plain in quotes, or an encoded word (RFC 2047)."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:_LONGEST]
    text = f"{name} ({author})" if name and author and name != author else name or author or "unknown"
    # the host's own table lets pass what is in quotes without quotes and backslashes in it
    if _HARMLESS.fullmatch(text):
        return f'"{text}"'
    return email.header.Header(text, "utf-8", maxlinelen=75).encode(linesep="\n")


def _trace(message: MessageSoFar, hostname: str, now: float) -> str:
    def word(text: str) -> str:
        return text if re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", text) else "unknown"

    client = message.client
    return (
        f"Received: from {word(client.helo)} ({word(client.hostname)} [{word(client.address)}])\n"
        f"\tby {hostname} (Todoku) id {word(message.queue_id or 'none')};\n\t{formatdate(now)}"
    )
