"""What an account may send, and what the relay's plan still takes, is spent here: the last rule, as it counts."""

from __future__ import annotations

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor

from todoku.gate import passage
from todoku.gate.decision import PASS, Change, Decision, DeleteHeader, Verdict
from todoku.gate.direction import Origin, origin, outside
from todoku.gate.message import MessageSoFar
from todoku.gate.rules.size import whole_size


async def spending(message: MessageSoFar) -> Decision:
    """Only recipients outside count: what stays here costs nothing and spreads nothing."""
    came_from = origin(message)
    if came_from is Origin.WORLD:
        return PASS
    verdict = await _spend(message, came_from)
    if verdict:
        return verdict
    shown = message.headers.all(passage.NAME)
    return Change([DeleteHeader(passage.NAME)]) if shown else PASS


async def _spend(message: MessageSoFar, came_from: Origin) -> Verdict | None:
    limits, recipients = message.context.limits, outside(message)
    if limits is None or not recipients:
        return None
    who, size = _who(message, came_from), whole_size(message)
    # In a thread, as the file may be busy; in one of its own, as those of forwarding wait for what is asked here.
    return await asyncio.get_running_loop().run_in_executor(
        _thread(), limits.spend, who, recipients, size, time.time()
    )


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
