"""A recipient to whom the relay sends nothing is refused at submission: whoever writes hears it while they look.

The relay would say 254, and the message would come back a moment later. The list is written by the agent, a minute
after the relay's own; without it nothing is refused here.

While the list is empty, nobody is asked about recipients: that saves each message a round trip. For a connection that
began then, the list is looked at once more at the end of the message, which is refused if nobody else is to get it.
"""

from __future__ import annotations

from todoku.gate.context import Context
from todoku.gate.decision import PASS, Decision, Refuse
from todoku.gate.direction import outbound
from todoku.gate.message import MessageSoFar

_REASONS = {
    "HARDBOUNCE": "its server refused a message for good",
    "SOFTBOUNCE": "its server could not be reached for too long",
    "COMPLAINT": "the recipient reported a message as unwanted",
    "UNSUBSCRIBE": "the recipient unsubscribed",
    "MANUAL": "somebody put it on the list",
}


def any_suppressed(context: Context) -> bool:
    return bool(context.suppressions.now)


def suppressed(message: MessageSoFar) -> Decision:
    return _refused(message.recipient, message)


def all_suppressed(message: MessageSoFar) -> Decision:
    if not any_suppressed(message.context) or not message.recipients:
        return PASS
    decisions = [_refused(recipient, message) for recipient in message.recipients]
    return PASS if PASS in decisions else decisions[0]


def _refused(recipient: str, message: MessageSoFar) -> Decision:
    address = recipient.lower()
    known = message.context.suppressions.now.get(address)
    if known is None or not outbound(message) or message.context.site.is_own(address):
        return PASS
    reason, day = known
    return Refuse(
        550,
        "5.7.1",
        f"The relay has sent nothing to {address} since {day}, as {_REASONS.get(reason, reason)}: when that is put "
        f"right, the postmaster lifts it with `todoku suppression lift {address}`",
    )
