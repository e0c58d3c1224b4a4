"""Inbound: password-protected ZIPs, which pass every scanner, are marked, held or refused (`protect.incoming_zip`).

Or noted, for `rules.quarantine` to hold the message once everything else has been judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from todoku.gate import held
from todoku.gate.decision import (
    PASS,
    AddHeader,
    Change,
    ChangeHeader,
    Decision,
    DeleteHeader,
    Modification,
    Refuse,
)
from todoku.gate.direction import Direction, direction
from todoku.gate.message import MessageSoFar
from todoku.protect import locked_zip, subject
from todoku.protect.mime import TooComplex
from todoku.settings import Settings

NAME = "X-Todoku-Encrypted-ZIP"
MARK = "[Encrypted ZIP, not scanned]"
_AT_ONCE = 16 * 1024  # a body up to that size is looked at within the event loop


def incoming_zip(message: MessageSoFar) -> Decision | Awaitable[Decision]:
    settings = message.context.settings
    if settings is None or settings.protect.incoming_zip == "pass":
        return PASS
    if direction(message) is not Direction.INBOUND:
        return PASS
    if held.returning(message):
        return PASS
    if message.body_size <= _AT_ONCE:
        return _judged(message, settings)
    return asyncio.get_running_loop().run_in_executor(_thread(), _judged, message, settings)


def _judged(message: MessageSoFar, settings: Settings) -> Decision:
    try:
        found = locked_zip.found(message.headers.raw(), message.body_view())
    except TooComplex as problem:
        return Refuse(554, "5.6.0", f"The message cannot be looked into: {problem}")
    if settings.protect.holds:
        message.locked = tuple(found)
        return PASS
    forged: list[Modification] = [DeleteHeader(NAME)] if message.headers.all(NAME) else []
    if not found:
        return Change(forged) if forged else PASS
    if settings.protect.incoming_zip == "refuse":
        name = "".join(c if c.isascii() and c.isprintable() else "?" for c in found[0])
        return Refuse(
            550,
            "5.7.1",
            f'The message carries a password-protected ZIP ("{name}"), which cannot be scanned for malware. It was not '
            "delivered to anybody: send it in another way",
        )
    names = subject.encoded(", ".join(found)[:300])
    shown = subject.decoded(message.headers.first("Subject") or "")
    marked = shown if shown.startswith(MARK) else f"{MARK} {shown}".strip()
    there = bool((message.headers.first("Subject") or "").strip())
    change = ChangeHeader if there else AddHeader
    return Change([*forged, AddHeader(NAME, names), change("Subject", subject.encoded(marked))])


@cache
def _thread() -> ThreadPoolExecutor:
    """Made in the worker, not before the fork."""
    return ThreadPoolExecutor(1, thread_name_prefix="incoming-zip")
