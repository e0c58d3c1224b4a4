"""What an account may send, and what the relay's plan still takes, is spent here: the last rule, as it counts."""

from __future__ import annotations

import time

from todoku.gate.decision import PASS, Decision
from todoku.gate.direction import Origin, origin, outside
from todoku.gate.message import MessageSoFar
from todoku.gate.rules.size import whole_size


def spending(message: MessageSoFar) -> Decision:
    """Only recipients outside count: what stays here costs nothing and spreads nothing."""
    came_from = origin(message)
    if came_from is Origin.WORLD or message.context.limits is None:
        return PASS
    recipients = outside(message)
    if not recipients:
        return PASS
    return (
        message.context.limits.spend(_who(message, came_from), recipients, whole_size(message), time.time())
        or PASS
    )


def _who(message: MessageSoFar, came_from: Origin) -> str | None:
    """Whose limits these are. What an alias of ours forwards, over SMTP on this machine, is nobody's."""
    if came_from is Origin.LOGIN:
        return message.login
    if came_from is Origin.DEVICE:
        return message.client.address
    return None if message.client.port else "this machine"
