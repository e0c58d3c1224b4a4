"""Rows 8 to 21 of the large providers' demands, held against one message, without a network.

`look` is the whole of it. Whatever the bytes are, it tells what is wrong with them; it never fails.
"""

from __future__ import annotations

from datetime import datetime

from todoku.check.finding import Finding, by_urgency
from todoku.check.message import bulk, content, form, people, signature
from todoku.check.message.parsing import Message, parse

LARGEST = 64 * 1024 * 1024  # bytes; beyond that nobody takes it
# Headers beyond these are refused for their size, and nobody would read what else is wrong with them.
_SENSELESS_SIZE, _SENSELESS_NUMBER = 1024 * 1024, 5000


def look(raw: bytes, now: datetime, *, is_bulk: bool | None = None) -> list[Finding]:
    """What is wrong with a message, the most urgent first. `is_bulk`: whether it is a mailing; None: it says itself."""
    message = parse(raw)
    mailing = bulk.says_it_is_bulk(message) if is_bulk is None else is_bulk
    if message.header_size > _SENSELESS_SIZE or len(message.fields) > _SENSELESS_NUMBER:
        return by_urgency(form.size(message))
    findings: list[Finding] = []
    for part in (form.look, people.look, signature.look):
        findings += part(message, now)
    texts = list(message.parts())
    findings += bulk.look(message, texts, mailing)
    findings += content.look(texts)
    return by_urgency(findings)


__all__ = ["LARGEST", "Message", "look", "parse"]
