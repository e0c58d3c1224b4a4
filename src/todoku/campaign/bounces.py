"""What a bounce (RFC 3464) or a complaint (RFC 5965) says, as a value: from octets that anybody may have written.

Python's `email` reads the MIME, and status codes are read as RFC 3463 has them. Libraries for bounces (flufl.bounce)
find out whose address it was in the many formats from before that RFC; here a sealed mark says so, and a bounce whose
format is none is not believed.
"""

from __future__ import annotations

import email
import re
from dataclasses import dataclass
from email.message import Message
from enum import StrEnum

_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_UNSUBSCRIBE = re.compile(r"/unsubscribe/([A-Za-z0-9_-]{40,80})")
_MOST_PARTS = 50
_LONGEST = 500  # characters
# RFC 3463 3.2, 3.3, 3.5: there is no such address or domain, or it takes nothing any more. Not 5.1.7 and 5.1.8, which
# are about the sender; nor a full mailbox, a policy or a size, which are other tomorrow or with another message.
_GONE = re.compile(r"5\.1\.(?:0|1|2|3|6|10)|5\.2\.1|5\.4\.4")


class What(StrEnum):
    HARD = "hard"
    SOFT = "soft"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True, slots=True)
class Said:
    """`tokens`: those in the unsubscribe links of the message that came back."""

    what: What
    status: str
    words: str
    tokens: tuple[str, ...] = ()


def read(octets: bytes) -> Said | None:
    """None: it says nothing that counts, such as that it is still being tried, or that somebody is on holiday."""
    try:
        message = email.message_from_bytes(octets)
        parts = [each for each, _ in zip(message.walk(), range(_MOST_PARTS), strict=False)]
        tokens = _tokens(parts)
        for part in parts:
            kind = part.get_content_type()
            if kind == "message/delivery-status":
                return _bounce(part, tokens)
            if kind == "message/feedback-report":
                return _complaint(part, tokens)
    except Exception:  # `email` can fail in many ways at what nobody's program would write
        return None
    return None


def _bounce(part: Message, tokens: tuple[str, ...]) -> Said | None:
    """The first recipient that failed: each of our messages has but one."""
    for block in _blocks(part):
        if _field(block, "Action").lower() != "failed":
            continue
        diagnosis = _field(block, "Diagnostic-Code")
        found = _STATUS.search(_field(block, "Status"))
        precise = _STATUS.search(diagnosis)
        status = found[1] if found else ""
        # Some put 5.0.0, and the other side's own code into its words.
        if precise and (not status or status.endswith(".0.0")) and precise[1][0] == (status or precise[1])[0]:
            status = precise[1]
        what = What.HARD if _GONE.fullmatch(status) else What.SOFT
        return Said(what, status, diagnosis or f"failed, status {status or 'not said'}", tokens)
    return None


def _complaint(part: Message, tokens: tuple[str, ...]) -> Said | None:
    for block in _blocks(part):
        kind = _field(block, "Feedback-Type").lower()
        if kind in ("abuse", "fraud"):
            return Said(What.COMPLAINT, "", f"reported as {kind} ({_field(block, 'User-Agent')})", tokens)
        if kind in ("opt-out", "opt-out-list"):
            return Said(What.UNSUBSCRIBE, "", f"reported as {kind}", tokens)
    return None


def _blocks(part: Message) -> list[Message]:
    """The groups of fields: `email` makes messages of them, or leaves a text."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [each for each in payload if isinstance(each, Message)][:_MOST_PARTS]
    texts = re.split(r"\r?\n\r?\n", str(payload))
    return [email.message_from_string(each.lstrip()) for each in texts[:_MOST_PARTS]]


def _tokens(parts: list[Message]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for part in parts:
        texts = [str(each) for each in part.get_all("List-Unsubscribe", [])]
        if part.get_content_type() == "text/rfc822-headers":
            texts.append(str(part.get_payload()))
        for text in texts:
            unfolded = re.sub(r"\r?\n[ \t]*", "", text)
            found |= dict.fromkeys(_UNSUBSCRIBE.findall(unfolded))
    return tuple(found)[:10]


def _field(block: Message, name: str) -> str:
    value = " ".join(str(block.get(name, "")).split())
    return "".join(each for each in value if each.isprintable())[:_LONGEST]
