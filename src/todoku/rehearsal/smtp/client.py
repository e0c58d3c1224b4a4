"""A small SMTP client on asyncio streams: source address, STARTTLS, and a transcript of what both sides said.

It is what the simulated relay and the outside sender deliver with. TLS between mail servers is
opportunistic (RFC 7435): used when offered, whoever the certificate names, and recorded whether it would
have been believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from todoku.rehearsal.internet import lookups
from todoku.rehearsal.internet.lookups import Exchange, LookupFailed, NoExchange, Resolver

LINE = 4096
LINES = 100  # of one reply


class SmtpError(Exception):
    """The conversation cannot go on: refused, cut, or not SMTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its code, and its lines without the code."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient. A code of 4xx may be tried again, a code of 5xx never."""

    recipient: str
    code: int
    text: str
    host: str = ""
    tls: bool = False
    verified: bool = False  # the certificate was valid for the host's name


class Client:
    """One connection to one server."""

    def __init__(self, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self.transcript: list[str] = []
        self.extensions: dict[str, str] = {}
        self.tls = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def connect(self, address: str, port: int, source: str | None = None) -> Answer:
        """Open the connection from `source` and read the greeting."""
        self.transcript.append(f"-- {address} port {port}" + (f" from {source}" if source else ""))
        local = (source, 0) if source else None
        async with asyncio.timeout(self.timeout):
            opening = asyncio.open_connection(address, port, local_addr=local, limit=LINE)
            self._reader, self._writer = await opening
        return await self.answer()

    async def say(self, line: str, shown: str | None = None) -> Answer:
        """Send a command and read the reply; `shown` takes its place in the transcript."""
        self.transcript.append("C: " + (shown or line))
        await self.write(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return await self.answer()

    async def write(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._writer.write(octets)
        async with asyncio.timeout(self.timeout):
            await self._writer.drain()

    async def answer(self) -> Answer:
        """Read one reply, of however many lines (up to a bound)."""
        lines: list[str] = []
        while len(lines) < LINES:
            try:
                async with asyncio.timeout(self.timeout):
                    octets = await self._reader.readuntil(b"\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as problem:
                raise SmtpError(f"no complete reply: {problem}") from problem
            line = octets[:-2].decode("utf-8", "backslashreplace")
            self.transcript.append("S: " + line)
            if not line[:3].isascii() or not line[:3].isdigit() or line[3:4] not in ("", " ", "-"):
                raise SmtpError(f"not an SMTP reply: {line[:80]!r}")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Answer(int(line[:3]), tuple(lines))
        raise SmtpError(f"a reply of more than {LINES} lines")

    async def ehlo(self, name: str) -> Answer:
        """EHLO; what is offered is in `extensions` afterwards."""
        answer = await self.say(f"EHLO {name}")
        pairs = (line.partition(" ") for line in answer.lines[1:])
        self.extensions = {word.upper(): rest for word, _, rest in pairs}
        return answer

    async def starttls(self, context: ssl.SSLContext, name: str) -> None:
        """STARTTLS and the handshake; raises ssl.SSLError when that fails. EHLO has to follow."""
        answer = await self.say("STARTTLS")
        if answer.code != 220:
            raise SmtpError(f"STARTTLS: {answer.code} {answer.text}")
        async with asyncio.timeout(self.timeout):
            await self._writer.start_tls(context, server_hostname=name)
        self.tls = True
        self.transcript.append("-- TLS")

    async def send(
        self, mail_from: str, recipients: Sequence[str], content: bytes
    ) -> list[tuple[str, Answer]]:
        """One mail transaction; the reply that decided about each recipient."""
        size = f" SIZE={len(content)}" if "SIZE" in self.extensions else ""
        answer = await self.say(f"MAIL FROM:<{mail_from}>{size}")
        if answer.code != 250:
            return [(recipient, answer) for recipient in recipients]
        answers = [(recipient, await self.say(f"RCPT TO:<{recipient}>")) for recipient in recipients]
        if not any(200 <= answer.code < 300 for _, answer in answers):
            return answers
        final = await self.say("DATA")
        if final.code == 354:
            self.transcript.append(f"C: ({len(content)} octets of message)")
            await self.write(stuffed(content))
            final = await self.answer()
        return [(who, final if 200 <= answer.code < 300 else answer) for who, answer in answers]

    async def quit(self) -> None:
        """Part as friends; what goes wrong now does not matter any more."""
        with contextlib.suppress(OSError, SmtpError, TimeoutError, AttributeError):
            await self.say("QUIT")
        self.close()

    def close(self) -> None:
        """Drop the connection."""
        with contextlib.suppress(OSError, AttributeError, RuntimeError):
            self._writer.close()


def stuffed(content: bytes) -> bytes:
    """A message as it travels after DATA: leading dots doubled, CRLF.CRLF at the end (RFC 5321 4.5.2)."""
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@dataclass(slots=True)
class Courier:
    """Carries messages to the mail exchanges of their recipients' domain, as one host of the internet."""

    hostname: str  # in EHLO
    sources: dict[int, str]  # address family (4, 6) -> own address
    resolver: Resolver
    port: int = 25
    authorities: Path | None = None  # a CA certificate to believe besides the system's
    timeout: float = 60.0
    _unbelieved: set[str] = field(default_factory=set)
    _contexts: dict[bool, ssl.SSLContext] = field(default_factory=dict)

    async def deliver(
        self, mail_from: str, recipients: Sequence[str], content: bytes, server: str | None = None
    ) -> tuple[list[Outcome], list[str]]:
        """Deliver to recipients of one domain, at `server` instead of its MX when given.

        Returns an outcome for each recipient and the transcript. What the network refuses comes back as 451,
        a domain that takes no mail as 556 (RFC 7505), with the reason as text.
        """
        domain = recipients[0].rpartition("@")[2].lower()
        try:
            hosts = await asyncio.to_thread(self._hosts, server, domain)
        except NoExchange as problem:
            return _all(recipients, 556, f"5.1.10 {problem}"), []
        except LookupFailed as problem:
            return _all(recipients, 451, f"4.4.3 {problem}"), []
        transcript: list[str] = []
        outcomes = _all(recipients, 451, "4.4.1 no mail exchange was tried")
        for host in hosts:
            outcomes, said = await self._try(host, mail_from, recipients, content)
            transcript += said
            if any(outcome.code // 100 != 4 for outcome in outcomes):
                break
        return outcomes, transcript

    def _hosts(self, server: str | None, domain: str) -> tuple[Exchange, ...]:
        if server is None:
            return lookups.exchanges(domain, self.resolver, self.sources)
        found = lookups.addresses(server, self.resolver, self.sources)
        if not found:
            raise NoExchange(
                f"{server} has no address that can be reached from {', '.join(self.sources.values())}"
            )
        return tuple(Exchange(server, address) for address in found)

    async def _try(
        self, host: Exchange, mail_from: str, recipients: Sequence[str], content: bytes
    ) -> tuple[list[Outcome], list[str]]:
        believe = host.name not in self._unbelieved
        client = Client(self.timeout)
        try:
            answer = await self._meet(client, host, believe)
            if answer.code >= 400:
                return _all(recipients, answer.code, answer.text, host), client.transcript
            answers = await client.send(mail_from, recipients, content)
            await client.quit()
        except ssl.SSLCertVerificationError:
            # Opportunistic: once more without believing the certificate.
            self._unbelieved.add(host.name)
            outcomes, said = await self._try(host, mail_from, recipients, content)
            return outcomes, [*client.transcript, "-- the certificate is not to be believed", *said]
        except (OSError, SmtpError, TimeoutError) as problem:
            why = str(problem) or type(problem).__name__
            return _all(recipients, 451, f"4.4.2 {host.name}[{host.address}]: {why}", host), client.transcript
        finally:
            client.close()
        verified = client.tls and believe
        return [
            Outcome(who, answer.code, answer.text, f"{host.name} ({host.address})", client.tls, verified)
            for who, answer in answers
        ], client.transcript

    async def _meet(self, client: Client, host: Exchange, believe: bool) -> Answer:
        source = self.sources[6 if ":" in host.address else 4]
        answer = await client.connect(host.address, self.port, source)
        if answer.code == 220:
            answer = await client.ehlo(self.hostname)
        if answer.code == 250 and "STARTTLS" in client.extensions:
            await client.starttls(self._context(believe), host.name)
            answer = await client.ehlo(self.hostname)
        return answer

    def _context(self, believe: bool) -> ssl.SSLContext:
        if believe not in self._contexts:
            context = ssl.create_default_context()
            if self.authorities:
                context.load_verify_locations(self.authorities)
            if not believe:
                # RFC 7435: a sending server that meets a certificate it cannot verify still encrypts.
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._contexts[believe] = context
        return self._contexts[believe]


def _all(recipients: Sequence[str], code: int, text: str, host: Exchange | None = None) -> list[Outcome]:
    where = f"{host.name} ({host.address})" if host else ""
    return [Outcome(recipient, code, text, where) for recipient in recipients]
