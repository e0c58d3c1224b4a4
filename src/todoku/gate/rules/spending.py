"""What an account may send, and what the relay's plan still takes, is spent here: the first rule that counts.

The postmaster is told when a limit of a day or a month is near, once in that time, and when one is used up.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from todoku.gate import notices, passage, protected, reinjection, rewriting
from todoku.gate.decision import PASS, Change, Decision, DeleteHeader, Verdict
from todoku.gate.direction import Origin, origin, outside
from todoku.gate.limits import Limits, Reached, Spender, Tell
from todoku.gate.message import MessageSoFar
from todoku.gate.notices import HOUR, Notice
from todoku.gate.rules.size import whole_size
from todoku.gate.spent import Busy
from todoku.settings import Settings

TellPostmaster: TypeAlias = Callable[[Notice, Settings], None]

_BULK_HEADERS = ("List-Id", "List-Unsubscribe")  # RFC 2919, RFC 2369
_BULK_WORDS = {"bulk", "list", "junk"}
HERE = "this machine"


_Asked: TypeAlias = tuple[Spender, list[str], int, float, Tell]


class Spending:
    """The rule. `tell` is for tests."""

    def __init__(self, tell: TellPostmaster = notices.tell_later) -> None:
        self._tell = tell

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        """Only recipients outside count: what stays here costs nothing and spreads nothing."""
        if origin(message) is Origin.WORLD:
            return PASS
        kept = message.protection.recipients if message.protection else ()
        recipients = [each for each in outside(message) if each not in kept]
        return self.spend(message, recipients, whole_size(message))

    def spend(
        self, message: MessageSoFar, recipients: list[str], size: int
    ) -> Decision | Awaitable[Decision]:
        """What `size` bytes to these `recipients` outside cost; a copy that was made of a message has been paid for."""
        limits, came_from = message.context.limits, origin(message)
        if limits is None or not recipients or protected.copy_id(message):
            return _decision(None, message)
        reached: list[Reached] = []
        spender = _spender(message, came_from)
        asked: _Asked = (spender, recipients, size, time.time(), reached.append)
        try:
            verdict = limits.spend_at_once(*asked)
        except Busy:
            return self._in_thread(limits, asked, reached, message)
        return self._told(verdict, reached, message)

    async def _in_thread(
        self, limits: Limits, asked: _Asked, reached: list[Reached], message: MessageSoFar
    ) -> Decision:
        """As the file may be busy; in a thread of its own, as those of forwarding wait for what is asked here."""
        loop = asyncio.get_running_loop()
        return self._told(await loop.run_in_executor(_thread(), limits.spend, *asked), reached, message)

    def _told(self, verdict: Verdict | None, reached: list[Reached], message: MessageSoFar) -> Decision:
        for each in reached:
            self._tell(notice(each), message.context.site)
        return _decision(verdict, message)


def _decision(verdict: Verdict | None, message: MessageSoFar) -> Decision:
    if verdict:
        return verdict
    shown = [name for name in (passage.NAME, passage.NOTE) if message.headers.all(name)]
    if not shown:
        return PASS
    note = message.headers.first(passage.NOTE)
    if note and passage.is_ours(message):
        message.when_told = functools.partial(reinjection.answered, note)
    return Change([DeleteHeader(name) for name in shown])


@functools.cache
def _thread() -> ThreadPoolExecutor:
    """Made in the worker, not before the fork."""
    return ThreadPoolExecutor(1, thread_name_prefix="spending")


def _spender(message: MessageSoFar, came_from: Origin) -> Spender:
    bulk = is_bulk(message)
    if came_from is Origin.LOGIN:
        return Spender(message.login, reserves=bulk)
    if came_from is Origin.DEVICE:
        return Spender(message.client.address, reserves=bulk)
    if passage.is_ours(message):  # a copy for strangers, or a notice of our own
        return Spender(message.headers.first(rewriting.PASSED), is_alias=True, reserves=True)
    return Spender(HERE, reserves=bulk)


def is_bulk(message: MessageSoFar) -> bool:
    """Whether the message is one of many: says so itself, or comes from one of `gate.bulk_senders`."""
    if (message.headers.first("Precedence") or "").lower() in _BULK_WORDS:
        return True
    if any(message.headers.all(name) for name in _BULK_HEADERS):
        return True
    return message.sender.lower() in {address.lower() for address in message.context.site.gate.bulk_senders}


def notice(reached: Reached) -> Notice:
    """Once in the limit's own window, when it is near; once an hour at most, while it is used up."""
    whose = reached.whose[:1].upper() + reached.whose[1:] if reached.whose != HERE else "This machine"
    matter = f"{reached.whose} {reached.what} {reached.window}"
    if not reached.until:
        return Notice(
            "limit near",
            matter,
            reached.window,
            f"{whose} has used {100 * reached.used // reached.most} % of {reached.words}",
            f"{whose} has used {reached.used:,} of {reached.words}.\n\n"
            "When all are used up, mail is held back by a temporary refusal that says when it can be sent.\n"
            "The limits are in [gate] and [relay.plan] of the settings.\n",
        )
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(reached.until))
    waits = (
        "Mail made on this machine (cron, web applications) waits in Postfix's maildrop folder; nobody else is told.\n"
        if reached.whose == HERE
        else "Whoever sends is told so, and when to try again. If nobody meant to send that much, the password may be\n"
        "in wrong hands: `todoku account password` sets a new one.\n"
    )
    return Notice(
        "limit reached",
        matter,
        max(HOUR, reached.window),
        f"{whose} has reached its limit of {reached.words}",
        f"{whose} has used up {reached.words}. There is room again from {at} on.\n\n{waits}",
    )


spending = Spending()
