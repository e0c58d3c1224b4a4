"""What an account may send, and what the relay's plan still takes, is spent here: the last rule, as it counts."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

from todoku.gate import passage
from todoku.gate.decision import PASS, Change, Decision, DeleteHeader, Verdict
from todoku.gate.direction import Origin, origin, outside
from todoku.gate.limits import Busy, Limits
from todoku.gate.message import MessageSoFar
from todoku.gate.rules.size import whole_size


def spending(message: MessageSoFar) -> Decision | Awaitable[Decision]:
    """Only recipients outside count: what stays here costs nothing and spreads nothing."""
    came_from = origin(message)
    if came_from is Origin.WORLD:
        return PASS
    limits, recipients = message.context.limits, outside(message)
    if limits is None or not recipients:
        return _decision(None, message)
    asked = (_who(message, came_from), recipients, whole_size(message), time.time())
    try:
        return _decision(limits.spend_at_once(*asked), message)
    except Busy:
        return _in_thread(limits, asked, message)


async def _in_thread(
    limits: Limits, asked: tuple[str | None, list[str], int, float], message: MessageSoFar
) -> Decision:
    """As the file may be busy; in a thread of its own, as those of forwarding wait for what is asked here."""
    loop = asyncio.get_running_loop()
    return _decision(await loop.run_in_executor(_thread(), limits.spend, *asked), message)


def _decision(verdict: Verdict | None, message: MessageSoFar) -> Decision:
    if verdict:
        return verdict
    shown = message.headers.all(passage.NAME)
    return Change([DeleteHeader(passage.NAME)]) if shown else PASS


@functools.cache
def _thread() -> ThreadPoolExecutor:
    """Made in the worker, not before the fork."""
    return ThreadPoolExecutor(1, thread_name_prefix="spending")


def _who(message: MessageSoFar, came_from: Origin) -> str | None:
    """Whose limits these are. What an alias of ours forwards is nobody's."""
    if came_from is Origin.LOGIN:
        return message.login
    if came_from is Origin.DEVICE:
        return message.client.address
    return None if passage.is_ours(message) else "this machine"
