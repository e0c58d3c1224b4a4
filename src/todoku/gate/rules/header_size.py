"""At most 256 KiB of headers: the relay answers "554 Message parse error" beyond (Oracle's troubleshooting page)."""

from __future__ import annotations

from todoku.gate.decision import PASS, Decision, Refuse
from todoku.gate.direction import outbound
from todoku.gate.message import MessageSoFar

MOST = 256 * 1024  # bytes


def header_size(message: MessageSoFar) -> Decision:
    if not outbound(message):
        return PASS
    size = len(message.headers.raw())
    if size <= MOST:
        return PASS
    return Refuse(
        552, "5.3.4", f"The headers have {size:,} bytes, and the relay takes {MOST:,} (256 KiB): shorten them"
    )
