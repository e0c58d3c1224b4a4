# A relay that answers as a test tells it, and remembers what it was sent: real sockets, no TLS.

from __future__ import annotations

import asyncio
import email
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from todoku.campaign.relay import Server

OK = "250 Ok"


async def at_once(_address: str, _recipient: str) -> None:
    pass


@dataclass
class Sink:
    """`answer(stage, recipient)` gives the reply; stages: connect, mail, rcpt, eom. "cut": the connection ends.

    `hang_up` closes the connections that there are, as a relay does with idle ones. `before_answer` is waited for
    when a message has been taken: whose it is (an address), and whom it is for. `listener`: where it listens."""

    answer: Callable[[str, str], str] = lambda _stage, _recipient: OK
    pipelining: bool = True
    before_answer: Callable[[str, str], Awaitable[None]] = at_once
    listener: socket.socket | None = None
    taken: list[tuple[str, str]] = field(default_factory=list)  # recipient, Message-ID
    raw: list[bytes] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)  # of every MAIL
    connections: int = 0
    most_at_once: int = 0
    at_once: int = 0
    server: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    old: set[asyncio.StreamWriter] = field(default_factory=set)
    old_until: str = ""
    last_words: bytes = b""

    async def __aenter__(self) -> Sink:
        listener = self.listener or socket.create_server(("127.0.0.1", 0), backlog=100)
        self.server = await asyncio.start_server(self._serve, sock=listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.server.close()

    @property
    def relay(self) -> Server:
        assert self.server is not None
        return Server("127.0.0.1", self.server.sockets[0].getsockname()[1], None, None)

    @property
    def counts(self) -> Counter[str]:
        """How often each recipient got something."""
        return Counter(recipient for recipient, _ in self.taken)

    def hang_up(self, at: str = "", words: bytes = b"") -> None:
        """At once, or when it is said `at` ("MAIL", "DATA"), with `words` before."""
        self.old, self.old_until, self.last_words = set(self.writers), at, words
        if not at:
            for writer in self.writers:
                self._close(writer)

    def say(self, words: bytes) -> None:
        """Something that nobody has asked for, on every connection."""
        for writer in self.writers:
            writer.write(words)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.last_words)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.at_once -= 1
            self.writers.remove(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(reply: str) -> None:
            if reply == "cut":
                writer.transport.abort()
                raise ConnectionResetError
            writer.write(f"{reply}\r\n".encode())

        greeting = self.answer("connect", "")
        say("220 sink" if greeting == OK else greeting)
        recipient, refused = "", False
        while line := (await reader.readline()).decode():
            verb = line[:4].upper()
            if writer in self.old and verb == self.old_until:
                self._close(writer)
                return
            if verb == "EHLO":
                say("250-sink\r\n250-PIPELINING\r\n250 Ok" if self.pipelining else "250 sink")
            elif verb == "MAIL":
                self.senders += re.findall("<(.*)>", line)
                refused = (reply := self.answer("mail", "")) != OK
                say(reply)
            elif verb == "RCPT":
                recipient = re.findall("<(.*)>", line)[0]
                reply = "503 no sender" if refused else self.answer("rcpt", recipient)
                refused = refused or reply[0] != "2"
                say(reply)
            elif verb == "DATA":
                say("503 Need RCPT command" if refused else "354 Go")
                if not refused:
                    content = await reader.readuntil(b"\r\n.\r\n")
                    reply = self.answer("eom", recipient)
                    if reply in (OK, "cut"):
                        self.raw.append(content)
                        self.taken.append((recipient, email.message_from_bytes(content)["Message-ID"]))
                        await self.before_answer(writer.get_extra_info("peername")[0], recipient)
                    say(reply)
            elif verb == "QUIT":
                say("221 Bye")
                return
            else:
                say(OK)
            await writer.drain()
