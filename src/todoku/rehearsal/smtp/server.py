"""A small SMTP server engine on asyncio streams: RFC 5321 with PIPELINING (RFC 2920), STARTTLS (RFC 3207).

The engine owns the wire: strict CRLF (a bare line feed ends neither a line nor a message), bounded lines,
messages and waiting times, the order of commands, and the hand-over to TLS. What is said is the `Session`'s:
every reply comes from one of its hooks. Hostile input ends the session and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence

from todoku.rehearsal.smtp.session import OK, Bounds, Listen, Peer, Reply, Session

log = logging.getLogger(__name__)

CHUNK = 65536
_PATH = re.compile(r'(?P<path><(?:"(?:[^"\\]|\\.)*"|[^<>"\s])*>)(?: +(?P<parameters>.*))?$')


class PortTaken(Exception):
    """An address could not be bound; the sentence says which, for whom and what to do."""


class Server:
    """Listens on some addresses and holds a `Session` with everyone who calls."""

    def __init__(
        self,
        name: str,
        listens: Sequence[Listen],
        make_session: Callable[[], Session],
        *,
        tls: ssl.SSLContext | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.name = name
        self.listens = tuple(listens)
        self.make_session = make_session
        self.tls = tls
        self.bounds = bounds or Bounds()
        self.connections: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._stopping = False

    async def start(self) -> None:
        """Listen on every address, or on none: raises `PortTaken` when one of them is not to be had."""
        self._stopping = False
        bound = []
        for listen in self.listens:
            try:
                bound.append(await self._bind(listen))
            except OSError as problem:
                await self.stop()
                raise PortTaken(
                    f"cannot listen on {listen.host} port {listen.port} ({self.name}): {problem.strerror}; "
                    "stop what listens there, or add the address to an interface, then start again"
                ) from problem
        self.listens = tuple(bound)  # a port chosen by the system is kept for the next start

    async def _bind(self, listen: Listen) -> Listen:
        tls = self.tls if listen.implicit_tls else None
        server = await asyncio.start_server(
            self._accept, listen.host, listen.port, ssl=tls, limit=CHUNK, backlog=512
        )
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return Listen(listen.host, port, listen.implicit_tls)

    async def stop(self) -> None:
        """Close the listening sockets and reset every connection.

        A session whose message is just being taken in gets its reply first: cutting the line between taking
        responsibility and saying so would make every honest client deliver twice (RFC 1047).
        """
        self._stopping = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in tuple(self.connections):
            connection.hang_up()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        if self._stopping:
            connection.hang_up()
            return
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)


class _Connection:
    """One client's connection: octets in, replies out."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.tls, self.bounds = server.tls, server.bounds
        self.buffer = bytearray()
        self.mistakes = 0
        self.ending = False
        self.responsible = False  # a message is being taken in: its reply must still get out
        self.session = server.make_session()
        name = writer.get_extra_info("peername") or ("", 0)
        self.session.peer = Peer(name[0].partition("%")[0], name[1])
        self.session.tls = writer.get_extra_info("ssl_object") is not None
        self.session.tls_offered = self.tls is not None

    def hang_up(self) -> None:
        """Reset the connection now, or right after the reply that is owed."""
        self.ending = True
        if self.responsible:
            return
        with contextlib.suppress(OSError, ValueError):
            # Zero linger makes the kernel send RST, as a host that went down and came back does.
            connection = self.writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def run(self) -> None:
        session = self.session
        try:
            reply = await self._answer("connect", session.greeting)
            self.ending = self.ending or reply.code >= 400
            while not self.ending:
                line = await self._line()
                if line is None:
                    break
                await self._command(line)
                if self.mistakes > self.bounds.mistakes:
                    await self._say("other", Reply.of("421 Too many errors"))
        except TimeoutError:
            with contextlib.suppress(OSError, TimeoutError):
                await self._say("other", session.timeout())
        except (OSError, ssl.SSLError, EOFError) as problem:
            log.debug("%s: %s", session.peer.ip, problem)
        finally:
            session.forget()
            session.closed()
            self.writer.close()

    # -- octets

    async def _read(self) -> bytes:
        async with asyncio.timeout(self.bounds.idle_seconds):
            return await self.reader.read(CHUNK)

    async def _line(self) -> bytes | None:
        """The next line without its CRLF; None at the end of the stream."""
        searched = 0
        while (end := self.buffer.find(b"\r\n", searched)) < 0:
            if len(self.buffer) > self.bounds.line:
                await self._say("other", self.session.too_long())
                return None
            searched = max(0, len(self.buffer) - 1)
            chunk = await self._read()
            if not chunk:
                return None
            self.buffer += chunk
        if end > self.bounds.line:
            await self._say("other", self.session.too_long())
            return None
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    async def _content(self) -> bytes | None:
        """Everything up to CRLF.CRLF with the dots removed (RFC 5321 4.5.2); None when it was too long.

        Raises EOFError when the client leaves before the end.
        """
        limit = self.session.message_limit
        # Stuffing adds at most one octet to three; what is longer is too long, and is not kept.
        keep = limit * 4 // 3 + 16
        body = bytearray(b"\r\n") + self.buffer  # the end of the DATA line counts as the first CRLF
        self.buffer.clear()
        searched, dropped = 0, 0
        while (end := body.find(b"\r\n.\r\n", searched)) < 0:
            if len(body) > keep:
                dropped += len(body) - 4
                del body[:-4]
            if dropped > 4 * keep:
                await self._say("eom", Reply(552, self.session.oversize().lines, close=True))
                raise EOFError("the client does not stop sending")
            searched = max(0, len(body) - 4)
            chunk = await self._read()
            if not chunk:
                raise EOFError("the client left in the middle of a message")
            body += chunk
        self.buffer += body[end + 5 :]
        if dropped:
            return None
        content = bytes(body[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]
        return content if len(content) <= limit else None

    # -- replies

    async def _say(self, stage: str, reply: Reply) -> None:
        await self.session.replying(stage, reply)
        self.writer.write(reply.wire())
        async with asyncio.timeout(self.bounds.idle_seconds):
            await self.writer.drain()
        self.ending = self.ending or reply.close

    async def _answer(self, stage: str, hook: Callable[[], Awaitable[Reply]]) -> Reply:
        reply = await self.session.before(stage) or await hook()
        await self._say(stage, reply)
        if 500 <= reply.code <= 504:
            self.mistakes += 1
        return reply

    # -- commands

    async def _command(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace")
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        if re.search(r"[\x00-\x1f\x7f]", text):  # RFC 5321 4.1.1: bare CR and LF have no place in a command
            verb = ""
        handler = getattr(self, f"_do_{verb.lower()}", None) if verb.isascii() and verb.isalpha() else None
        if handler is None:
            await self._answer("other", _later(self.session.unknown(verb)))
        else:
            await handler(argument.strip(" "))

    async def _do_ehlo(self, argument: str) -> None:
        self.session.forget()
        self.session.helo = argument
        hook = self.session.ehlo if argument else _later(Reply.of("501 Syntax: EHLO hostname"))
        await self._answer("ehlo", hook)

    async def _do_helo(self, argument: str) -> None:
        self.session.forget()
        self.session.helo = argument
        text = f"250 {self.session.hostname}" if argument else "501 Syntax: HELO hostname"
        await self._answer("helo", _later(Reply.of(text)))

    async def _do_noop(self, _argument: str) -> None:
        await self._answer("noop", _later(OK))

    async def _do_rset(self, _argument: str) -> None:
        self.session.forget()
        await self._answer("rset", _later(OK))

    async def _do_quit(self, _argument: str) -> None:
        await self._answer("quit", _later(Reply.of(f"221 {self.session.hostname} closing connection")))
        self.ending = True

    async def _do_vrfy(self, _argument: str) -> None:
        await self._answer("other", _later(self.session.unknown("VRFY")))

    async def _do_starttls(self, argument: str) -> None:
        if self.tls is None or self.session.tls or argument:
            reply = Reply.of("501 Syntax: STARTTLS") if argument else self.session.unknown("STARTTLS")
            await self._answer("starttls", _later(reply))
            return
        # RFC 3207 6: what was sent before the handshake is forgotten, or it could be commands that somebody
        # put in front of the client's own. Reading stops first, so that the client's handshake stays outside.
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        transport.pause_reading()
        await self._discard()
        transport.pause_reading()
        reply = await self._answer("starttls", _later(Reply.of("220 Ready to start TLS")))
        if reply.code != 220:
            transport.resume_reading()
            return
        async with asyncio.timeout(self.bounds.idle_seconds):
            await self.writer.start_tls(self.tls, ssl_handshake_timeout=min(30, self.bounds.idle_seconds))
        self.session.forget()
        self.session.helo, self.session.tls = "", True

    async def _discard(self) -> None:
        """Throw away what has arrived and was not read yet."""
        self.buffer.clear()
        while True:
            read = asyncio.ensure_future(self.reader.read(CHUNK))
            await asyncio.sleep(0)
            if not read.done():
                read.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await read
                return
            if not read.result():
                raise EOFError("the client left before the handshake")

    async def _do_auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        session = self.session
        await self._answer("auth", lambda: session.auth(mechanism.upper(), initial or None, self._challenge))

    async def _challenge(self, prompt: str) -> bytes | None:
        await self._say("auth", Reply(334, (prompt,)))
        return await self._line()

    async def _do_mail(self, argument: str) -> None:
        await self._answer("mail", lambda: self._mail(argument))

    async def _mail(self, argument: str) -> Reply:
        session = self.session
        if not session.helo:
            return session.misplaced("EHLO")
        if session.sender is not None:
            return session.misplaced("RSET")
        path = _path("FROM:", argument)
        if path is None:
            return session.bad_path("MAIL FROM", argument)
        reply = await session.mail(*path)
        if reply.code == 250:
            session.sender = path[0]
        return reply

    async def _do_rcpt(self, argument: str) -> None:
        await self._answer("rcpt", lambda: self._rcpt(argument))

    async def _rcpt(self, argument: str) -> Reply:
        session = self.session
        if session.sender is None:
            return session.misplaced("MAIL")
        path = _path("TO:", argument)
        if path is None or not path[0]:
            return session.bad_path("RCPT TO", argument)
        if session.accepted >= self.bounds.recipients:
            return Reply.of("452 4.5.3 Too many recipients")
        reply = await session.rcpt(*path)
        if 200 <= reply.code < 300:
            session.accepted += 1
            if reply.code == 250:
                session.recipients.append(path[0])
        return reply

    async def _do_data(self, argument: str) -> None:
        session = self.session
        if argument:
            await self._answer("data", _later(Reply.of("501 Syntax: DATA")))
            return
        needed = "MAIL" if session.sender is None else "RCPT" if not session.accepted else None
        hook = _later(session.misplaced(needed)) if needed else session.data
        if (await self._answer("data", hook)).code != 354:
            return
        content = await self._content()
        self.responsible = True
        try:
            if content is None:
                await self._answer("eom", _later(session.oversize()))
            else:
                await self._answer("eom", lambda: session.message(content))
        finally:
            self.responsible = False
        session.forget()


def _later(reply: Reply) -> Callable[[], Awaitable[Reply]]:
    async def hook() -> Reply:
        return reply

    return hook


def _path(keyword: str, argument: str) -> tuple[str, dict[str, str]] | None:
    """`FROM:<a@b> SIZE=1` as address and parameters; None when it is neither."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    # A blank after the colon is an error that every server forgives (RFC 5321 4.1.1.2 has none).
    found = _PATH.match(argument[len(keyword) :].lstrip(" "))
    if found is None:
        return None
    words = (found["parameters"] or "").split()
    parameters = {name.upper(): value for name, _, value in (word.partition("=") for word in words)}
    return found["path"][1:-1], parameters
