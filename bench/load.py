"""The load: mail programs that submit, each a process of its own with a blocking socket.

So lean because it runs on the processors that it measures: one system call for each command and reply, and OpenSSL
for TLS. It does not send a command before the one before it was answered (few mail programs do), and it stops at
the first refusal: a benchmark of refusals would be a fast one.
"""

from __future__ import annotations

import base64
import os
import pickle
import socket
import ssl
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

START_DELAY = 0.3  # seconds, in which all clients come to life
TIMEOUT = 90.0  # seconds for a reply
RECIPIENTS = 500  # different ones, in turn


class Refused(Exception):
    """The server did not accept a message; the words are its own."""


@dataclass(frozen=True, slots=True)
class Load:
    """`size`: bytes of a whole message. `per_session`: messages over one connection, before a new one is made and
    logged in to. `tag` makes the Message-IDs unique. `tls`: the authority to trust; None for a plain connection."""

    host: str
    port: int
    login: str
    password: str = field(repr=False)
    tag: str
    size: int = 4096
    clients: int = 20
    per_session: int = 1
    tls: str | None = None
    hostname: str = ""
    recipient_domain: str = "mailbox.example"

    def message_id(self, client: int, number: int) -> str:
        return f"<{self.tag}.{client}.{number}@bench.example>"

    def message(self, client: int, number: int, recipient: str) -> bytes:
        """As a mail program writes it, `size` bytes long, with the dot that ends it behind."""
        head = (
            f"Message-ID: {self.message_id(client, number)}\r\n"
            f"Date: {formatdate()}\r\n"
            "MIME-Version: 1.0\r\n"
            "User-Agent: Mozilla Thunderbird\r\n"
            "Content-Language: en-US\r\n"
            f"To: {recipient}\r\n"
            f"From: Alice Example <{self.login}>\r\n"
            "Subject: Minutes of the meeting, and what is to be done until the next one\r\n"
            "Content-Type: text/plain; charset=UTF-8; format=flowed\r\n"
            "Content-Transfer-Encoding: 7bit\r\n"
            "\r\n"
        ).encode()
        line = b"What was said about it is in the minutes, and nobody had anything to add.\r\n"
        lines, rest = divmod(max(0, self.size - len(head)), len(line))
        return head + line * lines + b"x" * max(0, rest - 2) + b"\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`latencies`: seconds from the last byte of each message to its 250. `finished`: when (monotonic) each came.
    `cpu`: seconds of processor time that the clients took."""

    seconds: float
    begin: float
    latencies: array[float]
    finished: array[float]
    sent: tuple[int, ...]  # messages accepted, by client
    sessions: int
    cpu: float

    @property
    def accepted(self) -> int:
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Messages accepted a second, within the time of the measurement."""
        until = self.begin + self.seconds
        return sum(each <= until for each in self.finished) / self.seconds


def run(load: Load, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> Outcome:
    """Submits for so long; `meanwhile` is called once, near the end, while the load is on. Raises Refused."""
    begin = time.monotonic() + START_DELAY
    pipes = [_fork(load, number, begin, begin + seconds) for number in range(load.clients)]
    time.sleep(START_DELAY + 0.8 * seconds)
    meanwhile()
    latencies, finished = array("d"), array("d")
    sent: list[int] = []
    problems: list[str] = []
    sessions, cpu = 0, 0.0
    for pid, pipe in pipes:
        with os.fdopen(pipe, "rb") as stream:
            said = stream.read()
        _, _, used = os.wait4(pid, 0)
        cpu += used.ru_utime + used.ru_stime
        report = _Report(problem="a client of the load died") if not said else pickle.loads(said)  # noqa: S301
        if report.problem:
            problems.append(report.problem)
        latencies.extend(report.latencies)
        finished.extend(report.finished)
        sent.append(len(report.latencies))
        sessions += report.sessions
    if problems:
        raise Refused(f"{len(problems)} of {load.clients} clients had to stop; the first: {problems[0]}")
    return Outcome(seconds, begin, latencies, finished, tuple(sent), sessions, cpu)


@dataclass(slots=True)
class _Report:
    latencies: array[float] = field(default_factory=lambda: array("d"))
    finished: array[float] = field(default_factory=lambda: array("d"))
    sessions: int = 0
    problem: str = ""


def _fork(load: Load, number: int, begin: float, until: float) -> tuple[int, int]:
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid:
        os.close(sending)
        return pid, receiving
    try:
        os.close(receiving)
        report = _Report()
        try:
            _client(load, number, begin, until, report)
        except (OSError, Refused) as problem:
            report.problem = f"{type(problem).__name__}: {problem}"
        with os.fdopen(sending, "wb") as stream:
            pickle.dump(report, stream)
    finally:
        os._exit(0)


def _client(load: Load, number: int, begin: float, until: float, report: _Report) -> None:
    context = ssl.create_default_context(cafile=load.tls) if load.tls else None
    count = 0
    time.sleep(max(0.0, begin - time.monotonic()))
    while time.monotonic() < until:
        session = Session(load, context)
        report.sessions += 1
        for _ in range(load.per_session):
            recipient = f"reader{count * load.clients % RECIPIENTS + number}@{load.recipient_domain}"
            message = load.message(number, count, recipient)
            taken = session.submit(load.login, recipient, message)
            report.latencies.append(taken)
            now = time.monotonic()
            report.finished.append(now)
            count += 1
            if now >= until:
                break
        session.close()


class Session:
    """One connection, greeted and logged in. Raises Refused, and OSError when the server is not there."""

    def __init__(self, load: Load, context: ssl.SSLContext | None) -> None:
        self._socket = socket.create_connection((load.host, load.port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect(b"", b"220")
        self._expect(b"EHLO laptop.example\r\n", b"250")
        if context is not None:
            self._expect(b"STARTTLS\r\n", b"220")
            self._socket = context.wrap_socket(self._socket, server_hostname=load.hostname)
            self._expect(b"EHLO laptop.example\r\n", b"250")
        secret = base64.b64encode(f"\0{load.login}\0{load.password}".encode())
        self._expect(b"AUTH PLAIN " + secret + b"\r\n", b"235")

    def submit(self, sender: str, recipient: str, message: bytes) -> float:
        """Seconds from the last byte to the 250."""
        self._expect(f"MAIL FROM:<{sender}> SIZE={len(message)}\r\n".encode(), b"250")
        self._expect(f"RCPT TO:<{recipient}>\r\n".encode(), b"250")
        self._expect(b"DATA\r\n", b"354")
        self._socket.sendall(message)
        sent = time.monotonic()
        self._expect(b"", b"250")
        return time.monotonic() - sent

    def close(self) -> None:
        self._expect(b"QUIT\r\n", b"221")
        self._socket.close()

    def _expect(self, command: bytes, code: bytes) -> None:
        if command:
            self._socket.sendall(command)
        reply = b""
        while not (reply.endswith(b"\n") and reply[reply.rfind(b"\n", 0, -1) + 1 :][3:4] == b" "):
            piece = self._socket.recv(4096)
            if not piece:
                raise Refused(f"the connection was closed after {reply!r}")
            reply += piece
        if not reply.startswith(code):
            shown = "AUTH" if command.startswith(b"AUTH") else command.decode().strip() or "the message"
            raise Refused(f"{shown}: {reply.decode(errors='replace').strip()}")
