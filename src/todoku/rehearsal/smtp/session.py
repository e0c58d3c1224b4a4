# ruff: noqa: ARG002 - the hooks get more than each of them needs
"""What an SMTP server of the rehearsal says: replies, and the hooks of a session that choose them.

`smtp_server` owns the wire and calls these hooks. A simulator overrides them to answer word for word as the
service that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on; port 0 takes any free one."""

    host: str
    port: int
    implicit_tls: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a connection comes from (SPF needs the address)."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one client may take: octets of a line, seconds of silence, nonsense commands, recipients."""

    line: int = 4096
    idle_seconds: float = 300.0
    mistakes: int = 20
    # RFC 5321 4.5.3.1.8: every server has to take 100.
    recipients: int = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """A code and one or more lines; `close` hangs up after it."""

    code: int
    lines: tuple[str, ...]
    close: bool = False

    @classmethod
    def of(cls, text: str) -> Reply:
        """`250 Ok` as people write it; 221 and 421 hang up (RFC 5321 4.1.1.10, 3.8)."""
        code, _, words = text.partition(" ")
        if not re.fullmatch(r"[2-5]\d\d", code):
            raise ValueError(f"{text!r} does not begin with a reply code such as 250 or 421")
        return cls(int(code), (words,), close=code in ("221", "421"))

    @property
    def text(self) -> str:
        """Code and last line, as logs show it."""
        return f"{self.code} {self.lines[-1]}"

    def wire(self) -> bytes:
        """The octets to send. What a client sent and we echo cannot break out of its line."""
        separators = "-" * (len(self.lines) - 1) + " "
        pairs = zip(separators, self.lines, strict=True)
        return b"".join(f"{self.code}{mark}".encode() + _printable(line) + b"\r\n" for mark, line in pairs)


def _printable(line: str) -> bytes:
    shown = line.encode("ascii", "backslashreplace")
    return bytes(octet if 32 <= octet < 127 else 63 for octet in shown)[:1000]


OK = Reply.of("250 Ok")
Challenge = Callable[[str], Awaitable[bytes | None]]


class Session:
    """What one client is told. Override the hooks; the engine keeps the attributes up to date."""

    def __init__(self, hostname: str, message_limit: int) -> None:
        self.hostname = hostname
        self.message_limit = message_limit  # octets
        self.peer = Peer("", 0)
        self.tls = False
        self.tls_offered = False
        self.helo = ""
        self.sender: str | None = None
        self.recipients: list[str] = []  # those answered 250
        self.accepted = 0  # those answered with any 2xx

    async def before(self, stage: str) -> Reply | None:
        """A reply that takes the place of the hook: refusals by state, injected faults.

        `stage` is connect, the verb in lower case, or eom (the end of the message).
        """

    async def replying(self, stage: str, reply: Reply) -> None:
        """Called before each reply is written: delays and records."""

    async def greeting(self) -> Reply:
        """The first line of the conversation."""
        return Reply.of(f"220 {self.hostname} ESMTP")

    async def ehlo(self) -> Reply:
        """The extensions on offer."""
        starttls = ("STARTTLS",) if self.tls_offered and not self.tls else ()
        limit = f"SIZE {self.message_limit}"
        return Reply(250, (self.hostname, "PIPELINING", limit, *starttls, "8BITMIME", "ENHANCEDSTATUSCODES"))

    async def auth(self, mechanism: str, initial: str | None, challenge: Challenge) -> Reply:
        """AUTH; `challenge` sends a 334 and returns the client's line."""
        return Reply.of("503 5.5.1 AUTH is not available here")

    async def mail(self, address: str, parameters: dict[str, str]) -> Reply:
        """MAIL FROM; the address is empty for the null sender."""
        return OK

    async def rcpt(self, address: str, parameters: dict[str, str]) -> Reply:
        """RCPT TO."""
        return OK

    async def data(self) -> Reply:
        """DATA, when there is at least one recipient."""
        return Reply.of("354 Start mail input; end with <CRLF>.<CRLF>")

    async def message(self, content: bytes) -> Reply:
        """The message, dots removed, lines as they came. A 2xx takes responsibility for it."""
        return OK

    def oversize(self) -> Reply:
        """The message was longer than `message_limit`."""
        return Reply.of("552 5.3.4 Message size exceeds fixed limit")

    def bad_path(self, verb: str, argument: str) -> Reply:
        """MAIL or RCPT whose argument is no path."""
        return Reply.of(f"501 5.1.7 Syntax: {verb}:<address>")

    def misplaced(self, needed: str) -> Reply:
        """A command out of order; `needed` is the one that has to come first."""
        return Reply.of(f"503 Need {needed} command")

    def unknown(self, verb: str) -> Reply:
        """A command that does not exist or is not offered."""
        return Reply.of("500 Command not recognized")

    def too_long(self) -> Reply:
        """A line over the bound."""
        return Reply(500, ("Line too long",), close=True)

    def timeout(self) -> Reply:
        """The client was silent for too long."""
        return Reply.of("421 Timeout waiting for data from client")

    def forget(self) -> None:
        """The mail transaction is over or given up."""
        self.sender, self.recipients, self.accepted = None, [], 0

    def closed(self) -> None:
        """The connection is gone."""
