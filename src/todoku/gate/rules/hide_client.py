"""Which program wrote a message, and from which address, is not told to the outside (`gate.hide_client`).

The address in Postfix's own Received line is replaced by its header_checks; a milter does not see that line.
"""

from __future__ import annotations

from todoku.gate.decision import PASS, Change, Decision, DeleteHeader
from todoku.gate.direction import outbound
from todoku.gate.message import MessageSoFar

TELLING = (
    "User-Agent",
    "X-Mailer",
    "X-MimeOLE",
    "X-Newsreader",
    "X-Originating-IP",
    "X-Originating-Client",
    "X-Originating-Email",
    "X-Source-IP",
    "X-Client-IP",
    "X-Remote-IP",
    "X-Sender-IP",
    "X-Forwarded-For",
    "X-PHP-Originating-Script",
    "X-PHP-Script",
)
_LOWER = {name.lower() for name in TELLING}


def hide_client(message: MessageSoFar) -> Decision:
    if not message.context.site.gate.hide_client or not outbound(message):
        return PASS
    there = _LOWER & message.headers.by_name.keys()
    return Change([DeleteHeader(name) for name in sorted(there)]) if there else PASS
