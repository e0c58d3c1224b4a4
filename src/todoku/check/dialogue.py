"""A conversation with a mail server, line by line, for saying what no proper client would (RFC 5321, RFC 3207)."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from types import TracebackType

from todoku.check.means import Connect

_LONGEST = 64 * 1024  # bytes of a reply; more is no reply


@dataclass(frozen=True, slots=True)
class Reply:
    """Its code, and its lines without it."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    @property
    def good(self) -> bool:
        return self.code // 100 in (2, 3)

    def offers(self, keyword: str) -> bool:
        """Whether a reply to EHLO has the keyword; Postfix can be told to write AUTH=PLAIN as well."""
        return any(line.upper().replace("=", " ").split(" ")[0] == keyword for line in self.lines[1:])

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Garbled(ConnectionError):
    """What came is no reply."""


class Refused(ConnectionRefusedError):
    """The server talks to us, and will have nothing to do with us."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"the server says {reply}")
        self.reply = reply


class Dialogue:
    """One connection. Every wait is bounded by `timeout` seconds. Raises OSError (ssl.SSLError is one)."""

    def __init__(self, connect: Connect, host: str, port: int, timeout: float) -> None:
        self._received = b""
        self.socket: socket.socket = connect(host, port, timeout)

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def secure(self, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        """TLS from here on. What came before it in the clear counts for nothing (RFC 3207 5)."""
        self._received = b""
        secured = context.wrap_socket(self.socket, server_hostname=name)
        self.socket = secured
        return secured

    def say(self, line: str) -> Reply:
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def reply(self) -> Reply:
        """The next SMTP reply."""
        lines: list[str] = []
        while True:
            line = self.line()
            if not (line[:3].isascii() and line[:3].isdigit()):
                raise Garbled(f'"{line[:60]}" is no reply of a mail server')
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(line[:3]), tuple(lines))
            if len(lines) > 200:
                raise Garbled("the reply has no end")

    def line(self) -> str:
        while b"\n" not in self._received:
            if len(self._received) > _LONGEST:
                raise Garbled("the line has no end")
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionResetError("the server closed the connection")
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")


def greeted(dialogue: Dialogue, name: str) -> Reply:
    """Wait for the greeting, say EHLO, and return what is offered. Raises OSError, Refused."""
    greeting = dialogue.reply()
    if greeting.code != 220:
        raise Refused(greeting)
    offered = dialogue.say(f"EHLO {name}")
    if offered.code != 250:
        raise Refused(offered)
    return offered


def anybody() -> ssl.SSLContext:
    """TLS without looking at the certificate, in any version: for finding out what is offered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
