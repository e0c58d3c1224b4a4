"""Inbound: a message with a password-protected ZIP is held until its addressee has shown that it can be looked into.

Two rules. The first holds it (`protect.held`): it is on the disk as it would have been delivered before the sender is
told "250", and goes to nobody now. What asks the addressees, looks into it and hands it over again is a service of its
own (`todoku.quarantine`). The second, the last of all, lets it pass then, once for each recipient.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import cache

from todoku.gate import held, notices
from todoku.gate.decision import (
    PASS,
    Change,
    Decision,
    DeleteHeader,
    DeleteRecipient,
    HoldBack,
    Modification,
    Refuse,
)
from todoku.gate.direction import Origin, origin
from todoku.gate.message import MessageSoFar
from todoku.gate.notices import HOUR, Notice
from todoku.gate.rules.protection import PASSED_BEFORE, job_of
from todoku.protect import language, mime, subject
from todoku.protect.held import About, Full, Quarantine
from todoku.settings import Settings

log = logging.getLogger("todoku.gate")

NOT_NOW = HoldBack(
    452,
    "4.3.1",
    "The message has to be held for its password-protected ZIP, and there is no room now; try again later",
)
_DAY = 86400
_SHOWN = 300  # characters

Tell = Callable[[Notice, Settings], None]


class Holding:
    """The first of the two rules. Its arguments are for tests."""

    def __init__(
        self,
        quarantine: Quarantine | None = None,
        tell: Tell = notices.tell_later,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quarantine = quarantine or Quarantine()
        self._tell = tell
        self._clock = clock

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        if not message.locked or not message.recipients:
            return PASS
        return self._held(message, message.context.site)

    async def _held(self, message: MessageSoFar, settings: Settings) -> Decision:
        job = job_of(message)
        instead = Change([DeleteRecipient(each) for each in message.recipients])
        if self._quarantine.knows(job):  # sent again, as the answer to it was lost
            log.info("%s: is held already: %s", message.queue_id, job)
            return instead
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(_thread(), self._hold, message, job, settings)
        except Full as problem:
            log.error("%s: cannot be held: %s", message.queue_id, problem)
            self._tell(_full(str(problem)), settings)
            return NOT_NOW
        except (OSError, ValueError) as problem:
            log.error("%s: cannot be held: %s", message.queue_id, problem)
            return NOT_NOW
        log.info("%s: held for its password-protected ZIP: %s", message.queue_id, job)
        return instead

    def _hold(self, message: MessageSoFar, job: str, settings: Settings) -> None:
        now, policy = self._clock(), settings.protect
        self._quarantine.hold(
            job,
            _about(message, now, now + policy.quarantine_days * _DAY),
            _content(message, job, settings, now),
            policy.quarantine_size,
        )


class Released:
    """The second. Its argument is for tests."""

    def __init__(self, quarantine: Quarantine | None = None) -> None:
        self._quarantine = quarantine or Quarantine()

    def __call__(self, message: MessageSoFar) -> Decision:
        if origin(message) is not Origin.WORLD or message.headers.first(held.NAME) is None:
            return PASS
        changes: list[Modification] = [DeleteHeader(held.NAME)] * len(message.headers.all(held.NAME))
        job = held.returning(message)
        if job is None:  # made up outside
            return Change(changes)
        given = [address.lower() for address in message.recipients_given]
        found = self._quarantine.find(job)
        known = [address.lower() for address in found.about.recipients] if found else []
        if found is None or len(given) != 1 or given[0] not in known:
            return Refuse(550, "5.7.1", "The message is not held for this recipient")
        try:
            if not found.mark(known.index(given[0]), message.queue_id or ""):
                log.info("%s: the message %s has passed before", message.queue_id, job)
                return PASSED_BEFORE  # whether Postfix has that one is being found out (`gate.released`)
        except OSError as problem:
            log.error("%s: cannot be marked: %s", message.queue_id, problem)
            return NOT_NOW
        return Change(changes)


def _about(message: MessageSoFar, now: float, expires: float) -> About:
    read = mime.read(message.headers.raw(), message.body_view())
    shown = subject.one_line(subject.decoded(message.headers.first("Subject") or ""))
    return About(
        sender=message.sender,
        recipients=tuple(message.recipients_given),
        author=subject.one_line(subject.decoded(message.headers.first("From") or message.sender))[:_SHOWN],
        subject=shown[:_SHOWN],
        files=message.locked,
        language=language.of(shown, read, message.body_view()),
        made=now,
        expires=expires,
    )


def _content(message: MessageSoFar, job: str, settings: Settings, now: float) -> Iterator[bytes]:
    """As it would have been delivered: with what the rules added, and whence it came (RFC 5321 4.4)."""
    client = message.client
    helo = (
        "".join(c if (c.isascii() and c.isalnum()) or c in ".-:[]" else "?" for c in client.helo[:255])
        or "unknown"
    )
    traced = (
        f"from {helo} ([{client.address or 'unknown'}])\r\n\t"
        f"by {settings.hostname} with ESMTP id {message.queue_id};\r\n\t{formatdate(now)}"
    )
    yield f"{held.NAME}: {held.header(job, message.sender)}\r\nReceived: {traced}\r\n".encode(
        "utf-8", "surrogateescape"
    )
    yield message.headers.raw() + b"\r\n"
    yield from message.body_chunks()


def _full(why: str) -> Notice:
    return Notice(
        kind="quarantine",
        matter="full",
        every=HOUR,
        subject="Mail with password-protected ZIPs is not taken",
        text=f"No more can be held for password-protected ZIPs: {why}.\n\nSuch mail is answered by 452, and comes "
        "again until there is room.\nSee `todoku protect held list`, and drop what nobody needs; or allow more "
        "(protect.quarantine_size).\n",
    )


@cache
def _thread() -> ThreadPoolExecutor:
    """Made in the worker, not before the fork."""
    return ThreadPoolExecutor(1, thread_name_prefix="quarantine")


quarantine = Holding()
released = Released()
