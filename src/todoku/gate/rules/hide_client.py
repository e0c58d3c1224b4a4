"""Which program wrote a message, and from which address, is not told to the outside (`gate.hide_client`).

Of what people submit Postfix itself leaves these headers out (submission_received.regexp), which costs it less than
being told to; here it is done for mail of devices and of this machine. The address in Postfix's own Received line is
replaced by its header_checks too; a milter does not see that line.
"""

from __future__ import annotations

from todoku.gate.decision import PASS, Change, Decision, DeleteHeader
from todoku.gate.direction import outbound
from todoku.gate.message import MessageSoFar
from todoku.settings.telling import TELLING

_LOWER = {name.lower() for name in TELLING}


def hide_client(message: MessageSoFar) -> Decision:
    if not message.context.site.gate.hide_client or not outbound(message):
        return PASS
    there = _LOWER & message.headers.by_name.keys()
    return Change([DeleteHeader(name) for name in sorted(there)]) if there else PASS
