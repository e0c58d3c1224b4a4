"""A connection to the relay (RFC 5321, 2920, 3207, 4954), kept open for many messages, with the answer for each.

Own, and not aiosmtplib or smtplib: MAIL, RCPT and DATA go in one write where the relay offers PIPELINING (two
round trips for a message instead of four), and the reply to RCPT is kept, since the relay's 254 is a success code that
says that nothing will be delivered.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from todoku.settings.credential import RelayCredential

_TIMEOUT = 60.0  # seconds for an answer
_END_TIMEOUT = 600.0  # seconds for that to the end of a message (RFC 5321 4.5.3.2.6)
_LONGEST_LINE, _MOST_LINES = 4096, 100
SUPPRESSED = 254
_CODE = re.compile(r"[2-5][0-9]{2}(?:[ -]|$)")  # RFC 5321 4.2


@dataclass(frozen=True, slots=True)
class Reply:
    code: int
    words: str

    @property
    def later(self) -> bool:
        return self.code // 100 == 4

    @property
    def never(self) -> bool:
        return self.code // 100 == 5

    def __str__(self) -> str:
        return f"{self.code} {self.words}"


class NotConnected(Exception):
    """There is no connection, or no longer; nothing is known of what had no answer yet."""


class Refused(Exception):
    """The relay refuses us, not a recipient: log-in, sender, or its service as a whole."""

    def __init__(self, stage: str, reply: Reply) -> None:
        super().__init__(f"the relay refuses {stage}: {reply}")
        self.stage, self.reply = stage, reply


@dataclass(frozen=True, slots=True)
class Server:
    """Where the relay is. `tls` None: no TLS and no log-in, for a sink in a benchmark."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    credential: RelayCredential | None = field(repr=False)
    hello: str = "localhost"


class Relay:
    """Made by `connect`; one message at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._extensions: frozenset[str] = frozenset()
        self.sent = 0

    @classmethod
    async def connect(cls, server: Server) -> Self:
        """Greeted, within verified TLS, logged in. Raises NotConnected, Refused."""
        implicit = server.tls if server.port == 465 else None
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(
                    server.host, server.port, ssl=implicit, server_hostname=server.host if implicit else None
                ),
                _TIMEOUT,
            )
        except (OSError, TimeoutError) as error:
            raise NotConnected(
                f"{server.host}:{server.port} cannot be reached: {error or 'no answer'}"
            ) from error
        relay = cls(reader, writer)
        try:
            await relay._begin(server, starts_tls=server.tls is not None and implicit is None)
        except BaseException:
            relay.drop()
            raise
        return relay

    async def _begin(self, server: Server, *, starts_tls: bool) -> None:
        _demand("the connection", await self._reply(), 220)
        await self._hello(server)
        if starts_tls and server.tls is not None:
            _demand("STARTTLS", await self._say("STARTTLS"), 220)
            try:
                await asyncio.wait_for(
                    self._writer.start_tls(server.tls, server_hostname=server.host), _TIMEOUT
                )
            except (OSError, TimeoutError) as error:
                raise NotConnected(f"TLS with {server.host} fails: {error or 'no answer'}") from error
            await self._hello(server)
        if server.credential is not None:
            pair = f"\0{server.credential.username}\0{server.credential.password}".encode()
            _demand("the log-in", await self._say("AUTH PLAIN " + base64.b64encode(pair).decode()), 235)

    async def _hello(self, server: Server) -> None:
        reply = await self._say(f"EHLO {server.hello}")
        _demand("EHLO", reply, 250)
        self._extensions = frozenset(line.split(" ")[0].upper() for line in reply.words.split("\n")[1:])

    async def send(self, sender: str, recipient: str, content: bytes) -> Reply:
        """The relay's word on this recipient: that to RCPT unless it is 250, then that to the message.

        Raises NotConnected, and Refused when it does not take the sender; then nothing was sent.
        """
        envelope = (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA")
        if "PIPELINING" in self._extensions:
            await self._write("".join(f"{line}\r\n" for line in envelope).encode())
            mail, rcpt, data = await self._reply(), await self._reply(), await self._reply()
        else:
            mail, rcpt, data = await self._one_by_one(envelope)
        answer = await self._content(content, mail, rcpt, data)
        self.sent += 1
        return answer

    async def _one_by_one(self, envelope: tuple[str, str, str]) -> tuple[Reply, Reply, Reply]:
        not_said = Reply(503, "not said")
        mail = await self._say(envelope[0])
        rcpt = await self._say(envelope[1]) if mail.code == 250 else not_said
        data = await self._say(envelope[2]) if rcpt.code // 100 == 2 else not_said
        return mail, rcpt, data

    async def _content(self, content: bytes, mail: Reply, rcpt: Reply, data: Reply) -> Reply:
        if mail.code != 250 or rcpt.code // 100 != 2:
            if data.code == 354:
                # RFC 2920 3.1: then the message has to be ended, and goes to nobody.
                await self._write(b".\r\n")
                await self._reply(_END_TIMEOUT)
            if mail.code == 421 or rcpt.code == 421:
                raise NotConnected(str(mail if mail.code == 421 else rcpt))
            await self._say("RSET")
            if mail.code != 250:
                raise Refused("the sender", mail)
            return rcpt
        if data.code != 354:
            await self._say("RSET")
            return data
        # RFC 5321 4.5.2
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        ended = stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
        await self._write(ended + b".\r\n")
        answer = await self._reply(_END_TIMEOUT)
        if answer.code == 535:  # not approved: of the From address it is said here
            raise Refused("the From address", answer)
        return rcpt if rcpt.code == SUPPRESSED and answer.code == 250 else answer

    async def quit(self) -> None:
        """Politely; what goes wrong is no matter any more."""
        with suppress(NotConnected, TimeoutError):
            await asyncio.wait_for(self._say("QUIT"), 2)
        self.drop()

    def drop(self) -> None:
        self._writer.transport.abort()

    async def _say(self, line: str) -> Reply:
        await self._write(f"{line}\r\n".encode())
        return await self._reply()

    async def _write(self, octets: bytes) -> None:
        try:
            self._writer.write(octets)
            await asyncio.wait_for(self._writer.drain(), _TIMEOUT)
        except (OSError, TimeoutError) as error:
            raise NotConnected(f"the connection to the relay broke: {error or 'no answer'}") from error

    async def _reply(self, timeout: float = _TIMEOUT) -> Reply:
        """RFC 5321 4.2. Raises NotConnected, also for what is no reply."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(timeout):
                while True:
                    line = await self._reader.readuntil(b"\n")
                    text = line.decode("utf-8", "replace").rstrip("\r\n")
                    if len(line) > _LONGEST_LINE or len(lines) > _MOST_LINES or not _CODE.match(text):
                        raise NotConnected(f"this is no reply: {text[:80]!r}")
                    lines.append(text[4:])
                    if text[3:4] != "-":
                        return Reply(int(text[:3]), "\n".join(lines)[:2000])
        except asyncio.IncompleteReadError as error:
            raise NotConnected("the relay closed the connection") from error
        except (OSError, TimeoutError, asyncio.LimitOverrunError) as error:
            raise NotConnected(f"the connection to the relay broke: {error or 'no answer'}") from error


def _demand(stage: str, reply: Reply, code: int) -> None:
    if reply.code == code:
        return
    if reply.never:
        raise Refused(stage, reply)
    raise NotConnected(f"{stage}: {reply}")
