"""Outbound, from those who log in and from devices: attachments to recipients outside are protected (`[protect]`).

Two rules. The first, before the size is judged, reads what there is and decides for each recipient; it refuses, takes
the sender's words out of the subject, and leaves a plan with the message. The second is the last of all: it makes a
copy for each group of recipients, has them on the disk (`protect.spool`), and leaves to the message only those who get
it as it was written. Copies come back here through Postfix like any mail of this machine, are known again
(`protected`), and go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from todoku.gate import courier, protected
from todoku.gate.decision import (
    PASS,
    AddRecipient,
    Change,
    ChangeHeader,
    Decision,
    DeleteHeader,
    DeleteRecipient,
    HoldBack,
    Modification,
    Pass,
    Refuse,
)
from todoku.gate.direction import Origin, origin, outside
from todoku.gate.message import MessageSoFar
from todoku.gate.protected_copies import Copies, Maker
from todoku.gate.rules.forwarding import digest
from todoku.gate.rules.size import TRACE
from todoku.gate.rules.spending import Spending, spending
from todoku.protect import plan, subject
from todoku.protect.mime import TooComplex
from todoku.protect.object_store import StoreFailed
from todoku.protect.plan import Plan
from todoku.protect.policy import Mode
from todoku.protect.spool import Job, Spool
from todoku.settings import Settings

log = logging.getLogger("todoku.gate")

PASSED_BEFORE = HoldBack(451, "4.3.0", "This copy has passed before")
_AT_ONCE = 64 * 1024  # a body up to that size is read within the event loop
STORE_FAILED = HoldBack(
    451,
    "4.3.0",
    "The attachments cannot be protected now, their store does not take them; please try again later",
)
NOT_NOW = HoldBack(
    452, "4.3.1", "The attachments cannot be protected now, the disk may be full; please try again later"
)


def planned(message: MessageSoFar) -> Decision | Awaitable[Decision]:
    """The first of the two rules."""
    settings = message.context.settings
    if settings is None or not settings.protect.on:
        return PASS
    if origin(message) not in (Origin.LOGIN, Origin.DEVICE):
        return PASS
    recipients = outside(message)
    if not recipients:
        return PASS
    if message.body_size <= _AT_ONCE:
        return _planned(message, settings, recipients)
    return asyncio.get_running_loop().run_in_executor(_threads(), _planned, message, settings, recipients)


def _planned(message: MessageSoFar, settings: Settings, recipients: list[str]) -> Decision:
    policy = settings.protect
    try:
        read = plan.read(
            policy, message.headers.raw(), message.body_view(), message.headers.first("Subject") or ""
        )
    except TooComplex as problem:
        return Refuse(554, "5.6.0", f"The attachments of the message cannot be protected: {problem}")
    made = plan.plan(policy, read, message.sender, recipients)
    if refused := made.of(Mode.REFUSE):
        why = made.decided[refused[0]].why
        return Refuse(
            550, "5.7.1", f"Attachments may not be sent to {', '.join(refused[:5])} ({why}): send it without"
        )
    message.protection = made if made.recipients else None
    if read.asked.rest is None:
        return PASS
    return Change([ChangeHeader("Subject", subject.encoded(read.asked.rest) if read.subject else " (none)")])


class Protection:
    """The second. Its arguments are for tests."""

    def __init__(
        self,
        spool: Spool | None = None,
        maker: Maker | None = None,
        soon: Callable[[Job], None] = courier.soon,
        spend: Spending = spending,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spool = spool or Spool(courier.SPOOL)
        self._maker = maker or Maker()
        self._soon = soon
        self._spend = spend
        self._clock = clock

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        if message.protection is not None:
            return self._protected(message, message.protection, message.context.site)
        if origin(message) is Origin.WORLD or message.headers.first(protected.NAME) is None:
            return PASS
        return self._passing(message)

    def _passing(self, message: MessageSoFar) -> Decision:
        """A copy of ours, once; a header that is none of ours has no business outside."""
        copy = protected.copy_id(message)
        if copy is not None and not self._spool.mark(copy, message.queue_id or ""):
            log.info("%s: the copy %s has passed before", message.queue_id, copy)
            return PASSED_BEFORE  # whether Postfix has that one is for the courier to find out
        return Change([DeleteHeader(protected.NAME)])

    async def _protected(self, message: MessageSoFar, made: Plan, settings: Settings) -> Decision:
        job = job_of(message)
        instead = Change(_instead(message, made))
        if self._spool.knows(job):  # sent again, as the answer to it was lost
            log.info("%s: the copies %s were made before", message.queue_id, job)
            return instead
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            copies = await loop.run_in_executor(
                _threads(), self._make, message, made, settings, job, given_up
            )
        except (OSError, ValueError) as problem:
            log.error("%s: attachments cannot be protected: %s", message.queue_id, problem)
            return STORE_FAILED if isinstance(problem, StoreFailed) else NOT_NOW
        except BaseException:
            given_up.set()  # out of time: what is still being made is removed when it is finished
            raise
        try:
            verdict = await self._judged(message, made, settings, copies)
            if verdict is not None:
                copies.discard()
                return verdict
            committed = copies.draft.commit()
        except BaseException:
            copies.discard()
            raise
        self._soon(committed)
        return instead

    def _make(
        self, message: MessageSoFar, made: Plan, settings: Settings, job: str, given_up: threading.Event
    ) -> Copies:
        copies = self._maker.make(message, made, settings, self._spool.draft(job), self._clock())
        if given_up.is_set():
            copies.discard()
        return copies

    async def _judged(
        self, message: MessageSoFar, made: Plan, settings: Settings, copies: Copies
    ) -> Decision | None:
        """A verdict against sending them, if there is one."""
        limit = settings.relay.plan.message_size
        largest = max(copies.sizes) + TRACE
        if largest > limit:
            return Refuse(
                552,
                "5.3.4",
                f"The message has {largest:,} bytes with its attachments protected; mail to "
                f"{min(made.recipients)} leaves through the relay, which takes {limit:,}: make it smaller",
            )
        decision = self._spend.spend(message, sorted(made.recipients), largest)
        if inspect.isawaitable(decision):
            decision = await decision
        return None if isinstance(decision, Pass | Change) else decision


def job_of(message: MessageSoFar) -> str:
    """The same for the same message sent again; one that has no Message-ID is never taken for another."""
    known = message.headers.first("Message-ID") if _had_message_id(message) else secrets.token_hex(16)
    more = "\0".join([known or "", *sorted(message.recipients)]).encode("utf-8", "surrogateescape")
    return hashlib.sha256(digest(message) + more).hexdigest()[:40]


def _had_message_id(message: MessageSoFar) -> bool:
    return any(header.name.lower() == "message-id" for header in message.headers.received)


def _instead(message: MessageSoFar, made: Plan) -> list[Modification]:
    """Takes those who get a copy from the recipients; where an alias leads to them, its other targets stay."""
    settings, protected_ones = message.context.site, made.recipients
    removed: list[Modification] = []
    added: dict[str, None] = {}
    for given in message.recipients:
        found = None if given in protected_ones else message.context.aliases.find(given, settings)
        targets = [given] if found is None else list(found[1])
        if protected_ones.isdisjoint(targets):
            continue
        removed.append(DeleteRecipient(given))
        added.update((target, None) for target in targets if target not in protected_ones)
    return [*removed, *(AddRecipient(target) for target in added)]


@cache
def _threads() -> ThreadPoolExecutor:
    """Made in the worker, not before the fork. Few: each works on a whole message."""
    return ThreadPoolExecutor(2, thread_name_prefix="protect")


protection = Protection()
