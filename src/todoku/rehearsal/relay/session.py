"""The relay's side of a submission, word for word as Oracle's troubleshooting page lists the replies.

The page gives codes and texts. In which phase each is given is only partly published: RCPT for 254
(application tests written against the service), MAIL for an envelope sender that is not approved (a user's
log), the end of DATA for a header From (the only place left). The shape of greeting and EHLO is that of a
transcript of 2023. Not published, and answered here as harshly as is plausible: anything before STARTTLS
other than EHLO (535), the null sender (535: nobody approved it), 8-bit addresses (553), AUTH with an
authorization identity of somebody else (535), the texts of 235, 334 and of MAIL (250 Ok), and limits on
silence (a minute) and recipients (100).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable

from todoku.rehearsal.relay.message import Handling, Message, ParseError, from_addresses, parse
from todoku.rehearsal.relay.record import Faults, Seen, Submitted
from todoku.rehearsal.relay.state import MEGABYTES_2, RelayState
from todoku.rehearsal.smtp.session import OK, Bounds, Challenge, Reply, Session

BOUNDS = Bounds(line=4096, idle_seconds=60.0, mistakes=20, recipients=100)
ADVERTISED_SIZE = MEGABYTES_2  # "always the deployment default", even where a larger message is allowed
_BEFORE_AUTH = frozenset(("connect", "ehlo", "helo", "starttls", "auth", "noop", "rset", "quit"))
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf'(?:{_ATOM}(?:\.{_ATOM})*|"(?:[^"\\]|\\.)*")@{_LABEL}(?:\.{_LABEL})+')

# Hands a message over to delivery: the message, its recipients, the domain of its envelope sender where that
# is not the service's own. False when there is no room for it.
Accept = Callable[[Message, tuple[str, ...], str | None], bool]


class RelaySession(Session):
    """One client of the relay."""

    def __init__(
        self,
        hostname: str,
        state: RelayState,
        faults: Faults,
        seen: Seen,
        handling: Handling,
        accept: Accept,
    ) -> None:
        super().__init__(hostname, state.limits.size)
        self.state, self.faults, self.seen = state, faults, seen
        self.handling, self.accept = handling, accept
        self.user: str | None = None  # OCID, once authenticated
        self.suppressed: list[str] = []
        self.reserved = 0
        self.counted = ""

    # -- around every reply

    async def before(self, stage: str) -> Reply | None:
        """Injected faults first; then what may not be said yet."""
        injected = self.faults.take(stage)
        if injected:
            return injected
        if stage in ("auth", "mail") and self.state.is_throttled(self.peer.ip):
            return Reply.of("421 Too many auth failures, try again later")
        if stage == "auth" and not self.tls:
            return Reply.of("504 Method not supported")  # no mechanism is on offer without TLS
        if stage not in _BEFORE_AUTH and self.user is None:
            return Reply.of("535 Authentication required")
        return None

    async def replying(self, stage: str, reply: Reply) -> None:
        """Delay and record."""
        if stage == "connect":
            self.seen.connections += 1
            self.counted = self.peer.ip
            self.seen.open_connections[self.counted] += 1
        if self.faults.latency_ms:
            await asyncio.sleep(self.faults.latency_ms / 1000)
        self.seen.gave(self.peer.ip, stage, reply)

    def closed(self) -> None:
        """One connection less from this address."""
        if self.counted:
            self.seen.open_connections[self.counted] -= 1
            if not self.seen.open_connections[self.counted]:
                del self.seen.open_connections[self.counted]

    def forget(self) -> None:
        """Give back what was set aside for a message that did not come."""
        self.state.release(self.reserved)
        self.reserved, self.suppressed = 0, []
        super().forget()

    # -- the conversation

    async def greeting(self) -> Reply:
        """`220 HOST ESMTP smtp-in`, or why not."""
        if self.state.is_throttled(self.peer.ip):
            return Reply.of("421 Too many auth failures, try again later")
        if self.seen.open_connections[self.peer.ip] >= self.state.limits.connections:
            return Reply.of("421 Too many connections, try again later")
        return Reply.of(f"220 {self.hostname} ESMTP smtp-in")

    async def ehlo(self) -> Reply:
        """Before TLS nothing but STARTTLS; the last line is `250 Ok`."""
        if not self.tls:
            return Reply(250, (self.hostname, "STARTTLS", "Ok"))
        offered = ("PIPELINING", "8BITMIME", f"SIZE {ADVERTISED_SIZE}", "AUTH PLAIN")
        return Reply(250, (self.hostname, *offered, "Ok"))

    async def auth(self, mechanism: str, initial: str | None, challenge: Challenge) -> Reply:
        """AUTH PLAIN only (RFC 4616)."""
        if self.user is not None:
            return Reply.of("503 Already authenticated")
        if not mechanism:
            return Reply.of("504 AUTH mechanism mismatch")
        if mechanism != "PLAIN":
            return Reply.of("504 Method not supported")
        if initial is None:
            line = await challenge("")
            if line is None:
                raise EOFError("the client left instead of answering the challenge")
            if line == b"*":
                return Reply.of("501 Authentication cancelled")  # RFC 4954 4
            initial = line.decode("ascii", "replace")
        return self._plain(initial)

    def _plain(self, encoded: str) -> Reply:
        try:
            octets = base64.b64decode("" if encoded == "=" else encoded, validate=True)
        except (binascii.Error, ValueError):
            return Reply.of("501 Invalid command argument, not a valid Base64 string")
        if octets.count(b"\0") == 0:
            return Reply.of("501 Invalid command argument, does not contain NUL")
        if octets.count(b"\0") == 1:
            return Reply.of("501 Invalid command argument, does not contain the second NUL")
        identity, username, password = octets.split(b"\0", 2)
        user = self.state.authenticate(username, password)
        if user is None or identity not in (b"", username):
            self.seen.auth_failures += 1
            self.state.failed(self.peer.ip)
            return Reply.of("535 Authentication credentials invalid")
        self.seen.auths += 1
        self.user = user
        return Reply.of("235 Ok")

    async def mail(self, address: str, parameters: dict[str, str]) -> Reply:
        """The envelope sender has to be an approved sender."""
        if address and not _ADDRESS.fullmatch(address):
            return self.bad_path("", address)
        size = parameters.pop("SIZE", "0")
        if parameters.keys() - {"BODY", "AUTH"} or not size.isascii() or not size.isdigit():
            return Reply.of("555 MAIL FROM parameters not recognized")  # RFC 5321 4.1.1.11
        self.message_limit = self.state.limits.size
        if int(size[:12]) > self.message_limit:
            return self.oversize()
        if not self.state.is_approved(address, self.user):
            self.state.failed(self.peer.ip)
            named = f" {address}" if address else ""
            reply = Reply.of(f"535 Authorization failed: Envelope From address{named} not authorized")
            self._log(address, reply, errorType="Authorization failure")
            return reply
        return OK

    async def rcpt(self, address: str, parameters: dict[str, str]) -> Reply:
        """Counts against the limits; a suppressed recipient is told by 254, which is a success code."""
        if not _ADDRESS.fullmatch(address):
            return self.bad_path("", address)
        if parameters:
            return Reply.of("555 RCPT TO parameters not recognized")
        # In which phase the limits are told is not published; a third party's notes have "all recipients were
        # rejected". Suppressed recipients count too (not published).
        refusal = self.state.reserve(1)
        if refusal:
            kind = "Daily Limit reached" if "per day" in refusal else "Sender Rate Limit reached"
            self._log(self.sender or "", Reply.of(refusal), recipient=address, errorType=kind)
            return Reply.of(refusal)
        self.reserved += 1
        if self.state.is_suppressed(address):
            self.suppressed.append(address)
            return Reply.of(f"254 4.7.1 Suppression for user {self.user} to {address}")
        return Reply.of(f"250 2.1.5 {address} and options Ok")

    async def message(self, content: bytes) -> Reply:
        """Read it, check every From address, count it, hand it over."""
        try:
            message = parse(content)
            authors = from_addresses(message)
        except ParseError:
            return Reply.of("554 Message parse error")
        for author in authors:
            if not self.state.is_approved(author, self.user):
                self.state.failed(self.peer.ip)
                reply = Reply.of(f"535 Authorization failed: address {author} not authorized")
                self._log(author, reply, errorType="Authorization failure")
                return reply
        count = len(self.recipients) + len(self.suppressed)
        more = count * (self.state.chunks(len(content)) - 1)
        refusal = self.state.reserve(more)
        if refusal:
            return Reply.of(refusal)
        self.reserved += more
        return await self._accept(message, authors[0], len(content))

    async def _accept(self, message: Message, author: str, size: int) -> Reply:
        # Only mail whose From domain is exactly the email domain gets that domain's signature.
        customer = self.state.signers.get(author.rpartition("@")[2].lower())
        ready = await asyncio.to_thread(self.handling.prepare, message, customer)
        # A return path of the customer's own goes with the email domain, as the signature does.
        return_path = self.state.return_paths.get(author.rpartition("@")[2].lower())
        if not self.accept(ready, tuple(self.recipients), return_path):
            return Reply.of("452 System storage error")
        self.state.spend(self.reserved)
        self.reserved = 0
        self.seen.messages += 1
        self.seen.submitted.append(
            Submitted(
                time.time(),
                self.peer.ip,
                self.sender or "",
                author,
                tuple(self.recipients),
                tuple(self.suppressed),
                ready.values("Message-id")[0].decode("utf-8", "replace"),
                size,
            )
        )
        self._log_accepted(author, ready)
        return OK

    def _log_accepted(self, author: str, message: Message) -> None:
        """One record for each recipient; here the Message-ID goes without its brackets (not published)."""
        message_id = message.values("Message-id")[0].decode("utf-8", "replace").strip("<>")
        for recipient in self.recipients:
            reply = Reply.of(f"250 2.1.5 {recipient} and options Ok")
            self._log(author, reply, recipient=recipient, messageId=message_id)
        for recipient in self.suppressed:
            reply = Reply.of(f"254 4.7.1 Suppression for user {self.user} to {recipient}")
            more = {"recipient": recipient, "messageId": message_id, "errorType": "Recipient suppressed"}
            self._log(author, reply, **more)

    def _log(self, author: str, reply: Reply, **more: str) -> None:
        """The category outboundaccepted. "Reset" and "Disconnected" are not logged here: no message is in them."""
        data: dict[str, object] = {"action": "accept", "sender": author, "smtpStatus": reply.text, **more}
        self.state.log(author.rpartition("@")[2], "outboundaccepted", data)

    # -- what the engine refuses, in the relay's words

    def oversize(self) -> Reply:
        """Over the limit of the account, whatever EHLO said."""
        return Reply.of("552 Exceeds byte limit")

    def bad_path(self, verb: str, argument: str) -> Reply:  # noqa: ARG002 - a hook
        """Not an address."""
        address = re.sub(r"(?i)^(from|to):", "", argument).strip(" <>")
        return Reply.of(f"553 {address} Invalid email address")
