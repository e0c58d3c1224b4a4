"""At most 256 KiB of headers: the relay answers "554 Message parse error" beyond (Oracle's troubleshooting page)."""

from __future__ import annotations

from todoku.gate.decision import PASS, Decision, Refuse
from todoku.gate.direction import outbound
from todoku.gate.message import MessageSoFar

MOST = 256 * 1024  # bytes
_MOST_OF_A_CHARACTER = 4  # bytes: in UTF-8; a line end in a header may become two


def header_size(message: MessageSoFar) -> Decision:
    if not outbound(message):
        return PASS
    if not message.headers.changed and message.headers.size * _MOST_OF_A_CHARACTER <= MOST:
        return PASS  # without putting them together
    size = len(message.headers.raw())
    if size <= MOST:
        return PASS
    return Refuse(
        552, "5.3.4", f"The headers have {size:,} bytes, and the relay takes {MOST:,} (256 KiB): shorten them"
    )
