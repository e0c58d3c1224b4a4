"""By what the gate knows its own copies again when Postfix shows them to it: a token that nobody else has.

The port for copies is open to every program of this machine. Without the token, what comes in there is mail of this
machine like any other and has its limits. The token is made before the workers are forked, travels as a header, and
is removed before the message goes on, so that no reader learns it.
"""

from __future__ import annotations

import hmac
import secrets

from todoku.gate.message import MessageSoFar

NAME = "X-Todoku-Passage"
NOTE = "X-Todoku-Note"  # by which note it is known whether Postfix has taken the copy (`reinjection`)
TOKEN = secrets.token_hex(16)


def is_ours(message: MessageSoFar) -> bool:
    """Whether this gate, in this run, made the message."""
    given = (message.headers.first(NAME) or "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given, TOKEN.encode())
