"""An SMTP dialogue held by hand, line by line, from any address of the world: for saying what no proper client
would say, and for showing exactly what was said (RFC 5321)."""

from __future__ import annotations

import base64
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType

TIMEOUT = 15.0  # seconds for each reply


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply: its code and its lines without it."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Dialogue:
    """One connection. Everything said by either side is in `transcript` ("C: ..." and "S: ...")."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        source: str | None = None,
        implicit_tls: ssl.SSLContext | None = None,
        hostname: str | None = None,
    ) -> None:
        self.transcript: list[str] = []
        self._hostname = hostname or host
        self._received = b""
        self._socket = socket.create_connection((host, port), TIMEOUT, (source, 0) if source else None)
        if implicit_tls:
            self._socket = implicit_tls.wrap_socket(self._socket, server_hostname=self._hostname)
        self.greeting = self._reply()

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def say(self, line: str, *, shown: str | None = None) -> Reply:
        """Send one line and return the reply to it; `shown` stands in the transcript in its place."""
        self.transcript.append("C: " + (shown or line))
        self._socket.sendall(line.encode() + b"\r\n")
        return self._reply()

    def send(self, octets: bytes, *, shown: str | None = None) -> None:
        """Send `octets` as they are, without waiting for a reply."""
        self.transcript.append("C: " + (shown or repr(octets)[2:-1]))
        self._socket.sendall(octets)

    def be_patient(self, seconds: float) -> None:
        """Wait that long for each reply from now on."""
        self._socket.settimeout(seconds)

    def reply(self) -> Reply:
        """The next reply, to something sent with `send`. Raises ConnectionError when there is none."""
        return self._reply()

    def starttls(self, context: ssl.SSLContext) -> Reply:
        reply = self.say("STARTTLS")
        if reply.code == 220:
            self._socket = context.wrap_socket(self._socket, server_hostname=self._hostname)
            self.transcript.append("-- TLS")
        return reply

    def auth_plain(self, login: str, password: str) -> Reply:
        token = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
        return self.say(f"AUTH PLAIN {token}", shown="AUTH PLAIN ...")

    def message(self, text: str | bytes) -> Reply:
        """DATA and the message; `text` has its line ends and its final dot already when it is bytes."""
        reply = self.say("DATA")
        if reply.code != 354:
            return reply
        if isinstance(text, str):
            text = text.replace("\r\n", "\n").replace("\n", "\r\n").encode() + b"\r\n.\r\n"
        self.send(text, shown=f"({len(text)} octets of message)" if len(text) > 200 else None)
        return self._reply()

    def _reply(self) -> Reply:
        lines: list[str] = []
        while True:
            line = self._line()
            self.transcript.append("S: " + line)
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(line[:3]), tuple(lines))

    def _line(self) -> str:
        while b"\n" not in self._received:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionResetError(f"{self._hostname} closed the connection")
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")
