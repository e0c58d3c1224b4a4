"""A connection to the relay (RFC 5321, 2920, 3207, 4954), kept open for many messages, with the answer for each.

Own, and not aiosmtplib or smtplib: MAIL, RCPT and DATA go in one write where the relay offers PIPELINING (two
round trips for a message instead of four), and the reply to RCPT is kept, since the relay's 254 is a success code that
says that nothing will be delivered.

A relay closes a connection that was idle for a while, as it may (RFC 5321 4.5.3.2.7). `is_over` tells before the
next message is given to it, and `BeforeContent` when it was found out too late, and no harm is done.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from todoku.campaign.replies import Ended, Replies, Reply
from todoku.settings.credential import RelayCredential

_TIMEOUT = 60.0  # seconds for an answer
_END_TIMEOUT = 600.0  # seconds for that to the end of a message (RFC 5321 4.5.3.2.6)
SUPPRESSED = 254
_NO_MORE = Reply(421, "the relay closed the connection")


class NotConnected(Exception):
    """There is no connection, or no longer; nothing is known of what had no answer yet."""


class BeforeContent(NotConnected):
    """It ended before anything of the message was said: nobody can have got it."""


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

    def __init__(self, transport: asyncio.Transport, replies: Replies) -> None:
        self._transport, self._replies = transport, replies
        self._extensions: frozenset[str] = frozenset()

    @classmethod
    async def connect(cls, server: Server) -> Self:
        """Greeted, within verified TLS, logged in. Raises NotConnected, Refused."""
        implicit = server.tls if server.port == 465 else None
        loop = asyncio.get_running_loop()
        try:
            transport, replies = await asyncio.wait_for(
                loop.create_connection(
                    Replies,
                    server.host,
                    server.port,
                    ssl=implicit,
                    server_hostname=server.host if implicit else None,
                ),
                _TIMEOUT,
            )
        except (OSError, TimeoutError) as error:
            raise NotConnected(
                f"{server.host}:{server.port} cannot be reached: {str(error) or 'no answer'}"
            ) from error
        relay = cls(transport, replies)
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
            await self._start_tls(server, server.tls)
            await self._hello(server)
        if server.credential is not None:
            pair = f"\0{server.credential.username}\0{server.credential.password}".encode()
            _demand("the log-in", await self._say("AUTH PLAIN " + base64.b64encode(pair).decode()), 235)

    async def _start_tls(self, server: Server, tls: ssl.SSLContext) -> None:
        if self._replies.unasked:
            # What came before TLS must not be taken for an answer within it (CVE-2011-0411 the other way round).
            raise NotConnected(f"{server.host} says more than it was asked before TLS")
        loop = asyncio.get_running_loop()
        try:
            transport = await asyncio.wait_for(
                loop.start_tls(self._transport, self._replies, tls, server_hostname=server.host), _TIMEOUT
            )
        except (OSError, TimeoutError) as error:
            raise NotConnected(f"TLS with {server.host} fails: {str(error) or 'no answer'}") from error
        if transport is None:
            raise NotConnected(f"TLS with {server.host} fails: it closed the connection")
        self._transport = transport

    async def _hello(self, server: Server) -> None:
        reply = await self._say(f"EHLO {server.hello}")
        _demand("EHLO", reply, 250)
        self._extensions = frozenset(line.split(" ")[0].upper() for line in reply.words.split("\n")[1:])

    @property
    def is_over(self) -> bool:
        """Whether the other side has closed it, or said so: it says nothing unasked but 421."""
        return self._transport.is_closing() or self._replies.is_over or self._replies.unasked

    async def send(self, sender: str, recipient: str, content: bytes) -> Reply:
        """The relay's word on this recipient: that to RCPT unless it is 250, then that to the message.

        Raises NotConnected (BeforeContent when nothing was sent), and Refused when it does not take the sender; then
        nothing was sent.
        """
        envelope = (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA")
        if "PIPELINING" in self._extensions:
            self._write("".join(f"{line}\r\n" for line in envelope).encode())
            mail, rcpt, data = await self._some(3)
        else:
            mail, rcpt, data = await self._one_by_one(envelope)
        first = mail if mail.code != 250 else rcpt if rcpt.code // 100 != 2 else data
        if first.code == 354 and first is data:
            return await self._content(content, rcpt)
        if first.code == 421 or not (first.later or first.never):
            raise BeforeContent(str(first))  # it goes, or its answers are not to what was asked
        await self._abandon(data)
        if first is mail:
            raise Refused("the sender", mail)
        return first

    async def _one_by_one(self, envelope: tuple[str, str, str]) -> tuple[Reply, Reply, Reply]:
        not_said = Reply(503, "not said")
        (mail,) = await self._some(1, envelope[0])
        (rcpt,) = await self._some(1, envelope[1]) if mail.code == 250 else (not_said,)
        (data,) = await self._some(1, envelope[2]) if rcpt.code // 100 == 2 else (not_said,)
        return mail, rcpt, data

    async def _abandon(self, data: Reply) -> None:
        """What was begun, so that the next message can be."""
        with suppress(NotConnected):  # `is_over` tells
            if data.code == 354:
                # RFC 2920 3.1: then the message has to be ended, and goes to nobody.
                self._write(b".\r\n")
                await self._reply(_END_TIMEOUT)
            await self._say("RSET")

    async def _content(self, content: bytes, rcpt: Reply) -> Reply:
        # RFC 5321 4.5.2
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._write(stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"))
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
        self._transport.abort()

    async def _say(self, line: str) -> Reply:
        self._write(f"{line}\r\n".encode())
        return await self._reply()

    def _write(self, octets: bytes) -> None:
        self._transport.write(octets)  # one message at most waits there: what is read follows what is written

    async def _reply(self, timeout: float = _TIMEOUT) -> Reply:
        """Raises NotConnected, also for what is no reply."""
        try:
            return (await self._replies.next(1, timeout))[0]
        except Ended as error:
            raise NotConnected(str(error)) from error

    async def _some(self, count: int, line: str = "") -> list[Reply]:
        """Those to the commands before the content. Who has said something and closes then is heard all the same."""
        if line:
            self._write(f"{line}\r\n".encode())
        try:
            return await self._replies.next(count, _TIMEOUT)
        except Ended as error:
            if not error.before:
                raise BeforeContent(str(error)) from error
            return error.before + [_NO_MORE] * (count - len(error.before))


def _demand(stage: str, reply: Reply, code: int) -> None:
    if reply.code == code:
        return
    if reply.never:
        raise Refused(stage, reply)
    raise NotConnected(f"{stage}: {reply}")
