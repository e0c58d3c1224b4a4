"""The size of the whole message as it leaves: the relay's limit for the outside, our own for ourselves.

What counts is the encoded message (attachments have grown by a third), with its headers and the line that Postfix
adds. A message for both inside and outside has to pass the relay as well.
"""

from __future__ import annotations

from todoku.gate.decision import PASS, Decision, Refuse
from todoku.gate.direction import outbound, outside
from todoku.gate.message import MessageSoFar

TRACE = 512  # bytes: our Received line, which a milter does not see


def size(message: MessageSoFar) -> Decision:
    if not outbound(message):
        return PASS
    settings = message.context.site
    total = whole_size(message)
    here, there = settings.limits.message_size, settings.relay.plan.message_size
    # What becomes of protected attachments is measured when it is made.
    protected = message.protection.recipients if message.protection else ()
    recipients = [each for each in outside(message) if each not in protected]
    if total <= (min(here, there) if recipients else here):
        return PASS
    return Refuse(
        552,
        "5.3.4",
        f"The message has {total:,} bytes with its attachments encoded; mail to {recipients[0]} leaves through the "
        f"relay, which takes {there:,}: make it smaller, or send a link"
        if recipients and total > there
        else f"The message has {total:,} bytes with its attachments encoded, and this server takes {here:,}: "
        "make it smaller, or send a link",
    )


def whole_size(message: MessageSoFar) -> int:
    """Bytes of the message as the relay will get it."""
    return len(message.headers.raw()) + 2 + message.body_size + TRACE
