"""Headers that may be there once are there once (RFC 5322 3.6): receivers differ in which of two they believe."""

from __future__ import annotations

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
    by_name = message.headers.by_name
    for name, shown in _NAMES.items():
        found = by_name.get(name)
        if found and len(found) > 1:
            return Refuse(
                550, "5.6.0", f"The message has {len(found)} {shown} headers; RFC 5322 3.6 allows one"
            )
    return PASS
