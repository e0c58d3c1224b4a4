"""A message to the operator's own mailbox at a provider, and finding it there over IMAP (RFC 9051, RFC 6154).

It takes the way of all mail of this host: sendmail, the gate, the relay.
"""

from __future__ import annotations

import imaplib
import re
import secrets
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

from todoku.host.client import Host

_SECONDS = 20.0  # for each answer of the provider
_PAUSE = 3.0  # seconds between two looks
_JUNK = re.compile(r"(?i)(?:spam|junk|bulk)[^/]{0,20}$")
_LISTED = re.compile(rb'\(([^)]*)\) (?:"[^"]*"|NIL) (?:"((?:[^"\\]|\\.)*)"|(\S+))')


class SendFailed(Exception):
    """It could not be sent, or the mailbox could not be looked into. The message says what was tried."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A message that can be recognised when it comes back."""

    message_id: str
    content: bytes


def compose(sender: str, recipient: str, now: datetime) -> Probe:
    """A plain letter, as a person would write it: what looks like a test is often treated as one."""
    token = secrets.token_hex(8)
    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = f"Does it arrive? ({token})"
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<todoku-probe.{token}@{sender.rpartition('@')[2]}>"
    message.set_content(
        "This is a message from your own mail system, to see how it arrives here.\n\n"
        'Open its source ("show original" or "view message source"), save all of it to a file, and have it\n'
        "explained on the mail host:\n\n    todoku check send --received FILE\n"
    )
    return Probe(str(message["Message-ID"]), message.as_bytes())


def submit(host: Host, probe: Probe, sender: str, recipient: str) -> None:
    """Hand it to this host's sendmail. Raises HostError."""
    host.run(
        ["sendmail", "-oi", "-f", sender, "--", recipient],
        input=probe.content.decode("ascii"),
        timeout=_SECONDS,
    )


@dataclass(frozen=True)
class Mailbox:
    """The mailbox at the provider. The password is asked for, and kept nowhere."""

    host: str
    user: str
    password: str
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context
    port: int = 993

    def __repr__(self) -> str:
        return f"Mailbox({self.host!r}, {self.user!r}, ...)"

    def find(
        self, message_id: str, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> tuple[str, bytes] | None:
        """The folder it is in and the message, looked for during `seconds`; None when it does not come.

        Looks into the INBOX and wherever the provider puts spam. Raises SendFailed.
        """
        end = clock() + seconds
        try:
            with imaplib.IMAP4_SSL(
                self.host, self.port, ssl_context=self.context(), timeout=_SECONDS
            ) as imap:
                imap.login(self.user, self.password)
                folders = ["INBOX", *_junk(imap)]
                while True:
                    for folder in folders:
                        if (raw := _fetched(imap, folder, message_id)) is not None:
                            return folder, raw
                    if clock() + _PAUSE > end:
                        return None
                    sleep(_PAUSE)
        except imaplib.IMAP4.error as problem:
            raise SendFailed(f"{self.host} refuses {self.user}: {problem}") from problem
        except OSError as problem:
            raise SendFailed(f"{self.host}:{self.port} cannot be reached: {problem}") from problem


def _junk(imap: imaplib.IMAP4) -> Iterator[str]:
    """The folders for spam, by RFC 6154's attribute or by name."""
    _, listed = imap.list()
    for line in listed or ():
        found = _LISTED.match(line) if isinstance(line, bytes) else None
        if found is None:
            continue
        name = (found[2] if found[2] is not None else found[3]).decode("ascii", "replace").replace('\\"', '"')
        if b"\\Junk" in found[1] or (_JUNK.search(name) and b"\\Noselect" not in found[1]):
            yield name


def _fetched(imap: imaplib.IMAP4, folder: str, message_id: str) -> bytes | None:
    quoted = '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"'
    status, _ = imap.select(quoted, readonly=True)
    if status != "OK":
        return None
    _, found = imap.search(None, "HEADER", "Message-ID", f'"{message_id}"')
    numbers = found[0].split() if found and found[0] else []
    if not numbers:
        return None
    _, parts = imap.fetch(numbers[-1].decode(), "(BODY.PEEK[])")
    with suppress(TypeError, IndexError):
        return bytes(parts[0][1])  # type: ignore[index]
    return None
