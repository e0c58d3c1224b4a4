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

from todoku.gate import notices, passage, rewriting
from todoku.gate.decision import PASS, Change, Decision, DeleteHeader, Verdict
from todoku.gate.direction import Origin, origin, outside
from todoku.gate.limits import Reached, Spender
from todoku.gate.message import MessageSoFar
from todoku.gate.notices import HOUR, Notice
from todoku.gate.rules.size import whole_size
from todoku.settings import Settings

Tell: TypeAlias = Callable[[Notice, Settings], None]

_BULK_HEADERS = ("List-Id", "List-Unsubscribe")  # RFC 2919, RFC 2369
_BULK_WORDS = {"bulk", "list", "junk"}
HERE = "this machine"


class Spending:
    """The rule. `tell` is for tests."""

    def __init__(self, tell: Tell = notices.tell_later) -> None:
        self._tell = tell

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        """Only recipients outside count: what stays here costs nothing and spreads nothing."""
        came_from = origin(message)
        return PASS if came_from is Origin.WORLD else self._counted(message, came_from)

    async def _counted(self, message: MessageSoFar, came_from: Origin) -> Decision:
        verdict = await self._spend(message, came_from)
        if verdict:
            return verdict
        shown = message.headers.all(passage.NAME)
        return Change([DeleteHeader(passage.NAME)]) if shown else PASS

    async def _spend(self, message: MessageSoFar, came_from: Origin) -> Verdict | None:
        limits, recipients = message.context.limits, outside(message)
        if limits is None or not recipients:
            return None
        reached: list[Reached] = []
        spend = functools.partial(
            limits.spend,
            _spender(message, came_from),
            recipients,
            whole_size(message),
            time.time(),
            reached.append,
        )
        # In a thread, as the file may be busy; in one of its own, as those of forwarding wait for what is asked here.
        verdict = await asyncio.get_running_loop().run_in_executor(_thread(), spend)
        for each in reached:
            self._tell(notice(each), message.context.site)
        return verdict


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
