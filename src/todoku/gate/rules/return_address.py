"""Bounces of what an alias led outside find their way back: a return address of ours is mapped to the sender.

Only bounces (the null sender) and only by addresses that we gave out: everybody else would have a way to send in
our name. The bounce leaves with bounces@ as its sender, so that it is never bounced twice: if it cannot be
delivered either, the postmaster reads it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from todoku.gate import rewriting, srs
from todoku.gate.decision import PASS, Change, Decision, DeleteRecipient, Refuse
from todoku.gate.message import MessageSoFar
from todoku.gate.reinjection import Copy, Inject, Injector, NotTaken
from todoku.gate.rules.forwarding import NOT_NOW, digest
from todoku.settings import Settings

log = logging.getLogger("todoku.gate")


class ReturnAddress:
    """The rule. Its arguments are for tests."""

    def __init__(
        self,
        inject: Inject | None = None,
        secret: Callable[[], bytes] = srs.secret,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inject = inject or Injector()
        self._secret = secret
        self._clock = clock

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        settings = message.context.settings
        if settings is None:
            return PASS
        recipients = message.recipients
        returned = [each for each in recipients if srs.is_return_address(each) and settings.is_own(each)]
        return self._returned(message, settings, returned) if returned else PASS

    async def _returned(self, message: MessageSoFar, settings: Settings, returned: list[str]) -> Decision:
        if message.sender:
            return Refuse(
                550, "5.7.1", f"<{returned[0]}> is for bounces only: write to whom you want to reach"
            )
        now = self._clock()
        try:
            writers = [(address, srs.reverse(address, self._secret(), now)) for address in returned]
        except srs.NotValid as problem:
            return Refuse(550, "5.1.1", str(problem))
        try:
            for address, writer in writers:
                back = srs.plain(address.rpartition("@")[2])
                if rewriting.passed(message, back):
                    return Refuse(554, "5.4.6", "Mail loop: the bounce has come back here before")
                content = rewriting.copy(message, back, settings.hostname, now, answerable=False)
                copy = Copy(digest(message, address), back, (writer,), content)
                await asyncio.to_thread(self._inject, copy)
        except NotTaken as problem:
            if problem.for_good:
                return Refuse(550, "5.7.1", f"The bounce cannot be sent back: {problem}")
            log.warning("%s: the bounce cannot be sent back now: %s", message.queue_id, problem)
            return NOT_NOW
        return Change([DeleteRecipient(address) for address in returned])


returned = ReturnAddress()
