"""Headers are US-ASCII (RFC 5322 2.2); other characters are encoded words (RFC 2047).

The relay does not offer SMTPUTF8 (RFC 6531), so raw characters would be refused or garbled later. A mail program is
told. Scripts and scanners have nobody to read a refusal: their Subject is encoded, which is where they do it.
"""

from __future__ import annotations

from email.header import Header

from todoku.gate.decision import PASS, Change, ChangeHeader, Decision, Refuse
from todoku.gate.direction import Origin, origin
from todoku.gate.message import HeaderField, MessageSoFar


def eight_bit(message: MessageSoFar) -> Decision:
    came_from = origin(message)
    if came_from is Origin.WORLD:
        return PASS
    raw = [header for header in message.headers if not (header.value.isascii() and header.name.isascii())]
    if not raw:
        return PASS
    first = raw[0]
    if came_from is Origin.LOGIN or len(raw) > 1 or first.name.lower() != "subject" or not _is_text(first):
        return Refuse(
            550,
            "5.6.7",
            f"The header {first.name} has characters beyond US-ASCII as they are; RFC 5322 2.2 and RFC 2047 ask for "
            "encoded words, which any current mail program makes",
        )
    encoded = Header(first.text, "utf-8", header_name="Subject").encode(linesep="\r\n")
    return Change((ChangeHeader("Subject", " " + encoded),))


def _is_text(header: HeaderField) -> bool:
    """Whether it is valid UTF-8: what is not came with surrogates in the place of its bytes."""
    try:
        header.value.encode()
    except UnicodeEncodeError:
        return False
    return True
