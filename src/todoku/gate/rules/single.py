"""Headers that may be there once are there once (RFC 5322 3.6): receivers differ in which of two they believe."""

from __future__ import annotations

from collections import Counter

from todoku.gate.decision import PASS, Decision, Refuse
from todoku.gate.direction import outbound
from todoku.gate.message import MessageSoFar

# RFC 5322 3.6, all that have a maximum of one. Bcc is dropped by Postfix (message_drop_headers).
ONCE = (
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
)
_NAMES = {name.lower(): name for name in ONCE}


def single(message: MessageSoFar) -> Decision:
    if not outbound(message):
        return PASS
    counted = Counter(header.name.lower() for header in message.headers)
    for name, shown in _NAMES.items():
        if counted[name] > 1:
            return Refuse(
                550, "5.6.0", f"The message has {counted[name]} {shown} headers; RFC 5322 3.6 allows one"
            )
    return PASS
