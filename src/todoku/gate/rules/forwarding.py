"""Inbound: mail that an alias of ours leads outside is passed on as mail of ours, because nothing else passes.

Postfix alone would hand it to the relay with a stranger's sender, which the relay refuses after the stranger's
server was told "250", and the bounce with it. So Postfix keeps the targets that are here, and those outside get a
copy with a return address of ours (`srs`) and a From of ours (`rewriting`). What cannot be passed on is refused
now, in words. This rule has to be the last: once a copy is handed over, the message is accepted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from todoku.gate import nondelivery, rewriting, srs
from todoku.gate.aliases import AliasBook
from todoku.gate.decision import (
    PASS,
    AddRecipient,
    Change,
    Decision,
    DeleteRecipient,
    HoldBack,
    Modification,
    Refuse,
)
from todoku.gate.direction import Direction, direction
from todoku.gate.message import MessageSoFar
from todoku.gate.reinjection import Copy, Inject, Injector, NotTaken
from todoku.settings import Settings

log = logging.getLogger("todoku.gate")

NOT_NOW = HoldBack(451, "4.3.0", "The message cannot be forwarded now; please try again later")


@dataclass(frozen=True, slots=True)
class Way:
    """One recipient that leads outside."""

    recipient: str  # as the sender wrote it
    alias: str
    here: tuple[str, ...]
    outside: tuple[str, ...]


class Forwarding:
    """The rule. Its arguments are for tests."""

    def __init__(
        self,
        aliases: AliasBook | None = None,
        inject: Inject | None = None,
        secret: Callable[[], bytes] = srs.secret,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._aliases = aliases
        self._inject = inject or Injector()
        self._secret = secret
        self._clock = clock

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        settings = message.context.settings
        if settings is None or direction(message) is not Direction.INBOUND:
            return PASS
        ways = self._ways(message, settings)
        return self._passed_on(message, settings, ways) if ways else PASS

    async def _passed_on(self, message: MessageSoFar, settings: Settings, ways: list[Way]) -> Decision:
        now = self._clock()
        refused = next((no for way in ways if (no := _refusal(message, way, settings))), None)
        if refused:
            return refused
        try:
            copies = [self._copy(message, way, settings, now) for way in ways if way.outside]
        except srs.CannotRewrite as problem:
            return Refuse(553, "5.1.7", f"{_leads(ways[0])}, but that cannot be done: {problem}")
        limit = settings.relay.plan.message_size
        largest = max((len(copy.content) for copy in copies), default=0)
        if largest > limit:
            return Refuse(
                552, "5.3.4", f"{_leads(ways[0])}, where {limit} bytes may be sent: it has {largest}"
            )
        return await self._pass_on(message, ways, copies, settings) or Change(_instead(ways))

    async def _pass_on(
        self, message: MessageSoFar, ways: list[Way], copies: list[Copy], settings: Settings
    ) -> Refuse | HoldBack | None:
        """Hands the copies over. Once one is on its way, a refusal of another is told by a notice: a reply would be
        taken to be about the whole message."""
        leading = [way for way in ways if way.outside]
        passed = False
        for way, copy in zip(leading, copies, strict=True):
            try:
                await asyncio.to_thread(self._inject, copy)
                passed = True
            except NotTaken as problem:
                if not problem.for_good:
                    log.warning("%s: cannot be forwarded now: %s", message.queue_id, problem)
                    return NOT_NOW
                words = f"{_leads(way)}, but it cannot be sent there: {problem}"
                if not passed:
                    return Refuse(550, "5.7.1", words)
                log.warning("%s: passed on in part only: %s", message.queue_id, words)
                if not await self._told(message, copy, words, settings):
                    return NOT_NOW
        return None

    async def _told(self, message: MessageSoFar, copy: Copy, words: str, settings: Settings) -> bool:
        """Whether the writer is told, once; a bounce has no writer, and is not bounced again."""
        if not message.sender:
            return True
        try:
            await asyncio.to_thread(
                self._inject, nondelivery.notice(message, copy, words, settings, self._clock())
            )
        except NotTaken as problem:
            log.warning("%s: the writer cannot be told now: %s", message.queue_id, problem)
            return problem.for_good
        return True

    def _ways(self, message: MessageSoFar, settings: Settings) -> list[Way]:
        """The recipients that lead outside; each address outside gets one copy, whichever lead to it."""
        aliases = self._aliases or message.context.aliases
        ways: list[Way] = []
        served: set[str] = set()
        for recipient in message.recipients:
            found = aliases.find(recipient, settings)
            if found is None or all(settings.is_own(target) for target in found[1]):
                continue
            alias, targets = found
            outside = tuple(t for t in targets if not settings.is_own(t) and t not in served)
            served.update(outside)
            ways.append(Way(recipient, alias, tuple(t for t in targets if settings.is_own(t)), outside))
        return ways

    def _copy(self, message: MessageSoFar, way: Way, settings: Settings, now: float) -> Copy:
        sender = srs.forward(message.sender, way.alias.rpartition("@")[2], self._secret(), now)
        return Copy(
            key=digest(message, way.alias, *way.outside),
            sender=sender,
            recipients=way.outside,
            content=rewriting.copy(message, way.alias, settings.hostname, now),
        )


def _refusal(message: MessageSoFar, way: Way, settings: Settings) -> Refuse | None:
    if rewriting.passed(message, way.alias):
        return Refuse(554, "5.4.6", f"Mail loop: the message has been forwarded by {way.alias} before")
    limit = settings.relay.plan.message_size
    if message.body_size > limit:  # not worth making a copy of
        size = message.body_size
        return Refuse(
            552, "5.3.4", f"{_leads(way)}, where {limit} bytes may be sent: it has more than {size}"
        )
    domain = way.alias.rpartition("@")[2]
    approved = message.context.approved
    if approved is not None and f"@{domain}" not in approved:
        return Refuse(
            550,
            "5.7.1",
            f"{_leads(way)}, but forwarding to there cannot pass the relay, which takes mail of {domain} from "
            f"single senders only; the postmaster there can have the whole domain approved",
        )
    return None


def _leads(way: Way) -> str:
    return f"{way.alias} leads to {' and '.join(way.outside) or 'an address elsewhere'}"


def _instead(ways: list[Way]) -> list[Modification]:
    here = {target: None for way in ways for target in way.here}
    return [
        *(DeleteRecipient(way.recipient) for way in ways),
        *(AddRecipient(target) for target in here),
    ]


def digest(message: MessageSoFar, *more: str) -> bytes:
    """The same for the same message sent again, whoever's turn it is to receive it."""
    made = hashlib.sha256("\0".join((message.sender, *more)).encode("utf-8", "surrogateescape"))
    for header in message.headers.received:
        made.update(f"{header.name}:{header.value}\n".encode("utf-8", "surrogateescape"))
    for chunk in message.body.chunks():
        made.update(chunk)
    return made.digest()


forwarded = Forwarding()
