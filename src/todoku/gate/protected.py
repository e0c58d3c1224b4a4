"""By what the gate knows a copy with protected attachments again when Postfix shows it: a header with a keyed hash.

The key is this gate's own and survives a restart, as the copies do. The header is removed before a copy goes on, so
that nobody learns one; and the envelope sender is part of the hash.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from pathlib import Path

from todoku.gate import srs
from todoku.gate.message import MessageSoFar

NAME = "X-Todoku-Protected"
KEY = Path("/var/lib/todoku/gate/protect-key")


def header(copy: str, sender: str) -> str:
    """The value for the copy with that id. OSError or ValueError when there is no key."""
    return f"{copy} {_hash(copy, sender)}"


def copy_id(message: MessageSoFar) -> str | None:
    """The id of the copy that the message is; None when it is none of ours, whatever it claims."""
    if message.login is not None or message.client.address not in ("127.0.0.1", "::1"):
        return None
    copy, _, given = (message.headers.first(NAME) or "").partition(" ")
    if not given or not given.isascii():
        return None
    return copy if hmac.compare_digest(given, _hash(copy, message.sender_given)) else None


def secret() -> bytes:
    """This gate's own, made at the first use. OSError or ValueError when there is none."""
    return _key(KEY)


def _hash(copy: str, sender: str) -> str:
    text = f"{copy}\0{sender}".encode("utf-8", "surrogateescape")
    return hmac.new(_key(KEY), text, hashlib.sha256).hexdigest()


@lru_cache(1)
def _key(path: Path) -> bytes:
    return srs.secret(path)
