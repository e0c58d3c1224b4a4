"""By what the gate knows a message again that it held: a header with a keyed hash, as copies of its own have one.

It is written into the message when it is held, and removed when it goes on to its recipient, so that nobody learns
one. Whoever can hand the message over again, the service that keeps it, cannot make one for another message.
"""

from __future__ import annotations

import hashlib
import hmac

from todoku.gate import protected
from todoku.gate.message import MessageSoFar

NAME = "X-Todoku-Held"


def header(job: str, sender: str) -> str:
    """The value for the message of that job. OSError or ValueError when there is no key."""
    return f"{job} {_hash(job, sender)}"


def returning(message: MessageSoFar) -> str | None:
    """The job whose message this is; None when it is none of ours, whatever it claims."""
    if message.login is not None or message.client.address not in ("127.0.0.1", "::1"):
        return None
    job, _, given = (message.headers.first(NAME) or "").partition(" ")
    if not given or not given.isascii():
        return None
    return job if hmac.compare_digest(given, _hash(job, message.sender_given)) else None


def _hash(job: str, sender: str) -> str:
    text = f"held\0{job}\0{sender}".encode("utf-8", "surrogateescape")
    return hmac.new(protected.secret(), text, hashlib.sha256).hexdigest()
