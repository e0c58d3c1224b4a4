"""Date and Message-ID are added where they are missing: RFC 6409 8.2 and 8.3 ask it of a submission server.

Devices and scripts often send neither, and receivers take that for spam. Postfix does the same for those whom
local_header_rewrite_clients names, before the gate sees the message; this is for where it does not.
"""

from __future__ import annotations

from email.utils import formatdate, make_msgid

from todoku.gate.decision import PASS, AddHeader, Change, ChangeHeader, Decision, Modification
from todoku.gate.direction import outbound
from todoku.gate.message import MessageSoFar


def complete(message: MessageSoFar) -> Decision:
    if not outbound(message):
        return PASS
    made: list[Modification] = []
    if not message.headers.first("Date"):
        made.append(_put(message, "Date", formatdate()))
    if not message.headers.first("Message-ID"):
        domain = message.sender.rpartition("@")[2] or message.context.site.domains[0].name
        made.append(_put(message, "Message-ID", make_msgid(domain=domain)))
    return Change(made) if made else PASS


def _put(message: MessageSoFar, name: str, value: str) -> Modification:
    """A header without a value is as good as none, but it is there."""
    return ChangeHeader(name, value) if message.headers.all(name) else AddHeader(name, value)
