"""What the relay does after `250 Ok`: deliver by MX, try again, and turn bounces into suppressions.

Each recipient gets a copy of its own, whose envelope sender is an address of the relay's return path (or of
the customer's own, which is a CNAME to the relay's), so that bounces come to the relay and never to the
submitter (Oracle's return path page). The local part of that address is not published. A 5xx from the other
side is a hard bounce and suppresses the recipient; a recipient that stays unreachable for all tries is a soft
bounce, which is recorded but does not suppress: the suppression list page names hard bounces, complaints,
manual entries and unsubscriptions only.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass

from todoku.rehearsal.relay.message import Handling, Message, from_addresses
from todoku.rehearsal.relay.record import Relayed, Seen
from todoku.rehearsal.relay.state import RelayState
from todoku.rehearsal.smtp.client import Courier, Outcome

log = logging.getLogger(__name__)

# Seconds between tries: quick at first, since people wait for a rehearsal; about two minutes in all.
BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0, *(15.0,) * 7)
PARALLEL = 10  # connections at a time
ROOM = 20_000  # copies waiting; more is "452 System storage error"


@dataclass(frozen=True, slots=True)
class Copy:
    """One recipient's copy of a message."""

    recipient: str
    return_path: str
    content: bytes
    message_id: str
    author: str  # first address of From
    began: float  # seconds since 1970


class Outbox:
    """The relay's queue, in memory."""

    def __init__(
        self,
        courier: Courier,
        handling: Handling,
        return_path_domain: str,
        state: RelayState,
        seen: Seen,
        backoff: tuple[float, ...] = BACKOFF,
    ) -> None:
        self.courier, self.handling = courier, handling
        self.return_path_domain = return_path_domain
        self.state, self.seen, self.backoff = state, seen, backoff
        self._line = asyncio.Semaphore(PARALLEL)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Copies that are neither delivered nor given up."""
        return len(self._tasks)

    def put(self, message: Message, recipients: tuple[str, ...], return_path: str | None = None) -> bool:
        """Take a prepared message; False when there is no room.

        `return_path`: the domain of the envelope sender, where it is a custom one.
        """
        if self.waiting + len(recipients) > ROOM:
            return False
        octets = message.octets()
        message_id = message.values("Message-id")[0].decode("utf-8", "replace")
        author, now = from_addresses(message)[0], time.time()
        for recipient in recipients:
            envelope = f"bounces+{secrets.token_hex(16)}@{return_path or self.return_path_domain}"
            copy = Copy(
                recipient, envelope, self.handling.received(recipient) + octets, message_id, author, now
            )
            task = asyncio.create_task(self._carry(copy))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    async def stop(self) -> None:
        """Give up what is waiting (the world ends)."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, copy: Copy) -> None:
        outcome = await self._try(copy)
        tries = 1
        for pause in self.backoff:
            if outcome.code // 100 != 4:
                break
            await asyncio.sleep(pause)
            outcome = await self._try(copy)
            tries += 1
        self._record(copy, outcome, tries)

    async def _try(self, copy: Copy) -> Outcome:
        async with self._line:
            try:
                outcomes, _ = await self.courier.deliver(copy.return_path, [copy.recipient], copy.content)
            except Exception as problem:  # a copy must not get lost on a mistake of ours
                log.exception("delivery to %s", copy.recipient)
                return Outcome(copy.recipient, 451, f"4.3.0 {problem}")
        return outcomes[0]

    def _record(self, copy: Copy, outcome: Outcome, tries: int) -> None:
        kind = outcome.code // 100
        bounce = {2: "", 4: "soft"}.get(kind, "hard")
        reply = f"{outcome.code} {outcome.text}"
        entry = Relayed(
            time.time(),
            copy.recipient,
            copy.message_id,
            "bounce" if bounce else "relay",
            bounce,
            reply,
            outcome.host,
            outcome.tls,
            outcome.verified,
            tries,
            copy.author,
        )
        (self.seen.bounces if bounce else self.seen.relayed).append(entry)
        self._log(copy, entry)
        if bounce == "hard":
            self.state.suppress(copy.recipient, "HARDBOUNCE", copy.message_id, reply, outcome.host)

    def complain(self, address: str) -> None:
        """The recipient of the latest message that was relayed to this address reports it as unwanted."""
        relayed = [each for each in self.seen.relayed if isinstance(each, Relayed)]
        for entry in reversed(relayed):
            if entry.recipient.lower() == address.lower():
                self.state.suppress(entry.recipient, "COMPLAINT", entry.message_id)
                self._log_relayed(entry.author, entry, {"action": "complaint"})
                return
        raise ValueError(f"nothing was relayed to {address}")

    def _log(self, copy: Copy, entry: Relayed) -> None:
        """The category outboundrelayed, with the fields that Oracle's pages name. Values of bounceCategory are not
        published."""
        code, _, text = entry.reply.partition(" ")
        data: dict[str, object] = {
            "action": entry.action,
            "internalProcessingDurationInMs": int((entry.time - copy.began) * 1000),
            "smtpStatus": entry.reply,
        }
        if entry.host:
            data["recipientMailServer"] = entry.host  # "mx.example (192.0.2.10)"
        if entry.bounce:
            enhanced = text.split(" ", 1)[0]
            is_enhanced = enhanced.count(".") == 2 and enhanced.replace(".", "").isdigit()
            data |= {"errorType": entry.bounce, "bounceCategory": "bad-mailbox", "message": entry.reply}
            data["bounceCode"] = enhanced if is_enhanced else code
        self._log_relayed(copy.author, entry, data)

    def _log_relayed(self, author: str, entry: Relayed, data: dict[str, object]) -> None:
        domain = author.rpartition("@")[2]
        known = {"messageId": entry.message_id, "recipient": entry.recipient, "sender": author}
        more = {"receivingDomain": entry.recipient.rpartition("@")[2]}
        self.state.log(domain, "outboundrelayed", {**known, **more, **data})
