"""What mailings have to have: rows 14 and 15, and the Feedback-ID of row 30 (RFC 8058, RFC 2369).

Knows the relay: Oracle's Email Delivery adds a List-Unsubscribe of its own to everything that has no https address
there, and replaces one that has only mailto; whoever clicks on it is suppressed for the whole tenancy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.message.parsing import Message
from todoku.check.message.signature import covers, signatures

_POST = "List-Unsubscribe=One-Click"
_LINK = re.compile(
    r"unsubscri|opt[ -]?out|manage (?:your )?(?:email )?preferences|email preferences|abmelde|abbestell|désabonn|"
    r"se désinscrire|cancelar (?:la )?suscripci|darse de baja|disiscri|uitschrijven|配信停止|配信解除|"
    r"購読解除|登録解除|退订|退訂|수신거부|отписаться",
    re.IGNORECASE,
)


def says_it_is_bulk(message: Message) -> bool:
    """Whether the message's own headers call it a mailing."""
    precedence = (message.first("Precedence") or "").lower()
    marks = ("List-Unsubscribe", "List-Unsubscribe-Post", "List-ID", "Feedback-ID")
    return precedence in ("bulk", "list") or any(message.first(name) is not None for name in marks)


def look(message: Message, texts: Sequence[tuple[str, str]], is_bulk: bool) -> Iterator[Finding]:
    if not is_bulk:
        yield passed(
            "message.unsubscribe",
            "no mailing by its headers (the relay adds a List-Unsubscribe of its own to it)",
        )
        return
    yield from _one_click(message)
    yield from _link(texts)
    yield from _feedback_id(message)


def _one_click(message: Message) -> Iterator[Finding]:
    value, post = message.first("List-Unsubscribe"), message.first("List-Unsubscribe-Post")
    faults = list(_faults(value, post))
    names = ("list-unsubscribe", "list-unsubscribe-post")
    if not faults and signatures(message) and not covers(message, names):
        faults.append("no DKIM signature covers both headers (RFC 8058 4)")
    for fault in faults:
        yield failed(
            "message.unsubscribe",
            fault,
            "Write List-Unsubscribe: <https://...> with one https address of its own for each recipient, and "
            f"List-Unsubscribe-Post: {_POST}. Without an https address the relay puts its own in their place, and who "
            "clicks there gets no mail at all from you any more",
        )
    if not faults:
        yield passed("message.unsubscribe", f"{value[:100] if value else ''} with one click")


def _faults(value: str | None, post: str | None) -> Iterator[str]:
    if value is None:
        yield "the mailing has no List-Unsubscribe"
        return
    uris = re.findall(r"<([^<>]{1,2000})>", value)
    secure = [uri for uri in uris if uri.strip().lower().startswith("https://")]
    if not uris:
        yield f'List-Unsubscribe has no address in angle brackets: "{value[:80]}"'
    elif not secure:
        yield f'List-Unsubscribe has no https address: "{value[:80]}"'
    elif len(secure) > 1:
        yield f"List-Unsubscribe has {len(secure)} https addresses; one is allowed (RFC 8058 3.1)"
    if post is None:
        yield "there is no List-Unsubscribe-Post"
    elif post.replace(" ", "") != _POST:
        yield f'List-Unsubscribe-Post is "{post[:60]}", not {_POST}'


def _link(texts: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    if any(_LINK.search(text) for _, text in texts):
        yield passed("message.unsubscribe-link", "the text tells how to unsubscribe")
    else:
        yield failed(
            "message.unsubscribe-link",
            "nothing in the text tells how to unsubscribe",
            "Put a link into the text that people can see and that leads to it",
        )


def _feedback_id(message: Message) -> Iterator[Finding]:
    value = message.first("Feedback-ID")
    if value is None:
        return
    parts = value.split(":")
    if len(parts) > 4 or not 5 <= len(parts[-1].strip()) <= 15 or len(set(parts)) < len(parts):
        yield warned(
            "message.feedback-id",
            f'Feedback-ID is "{value[:80]}"',
            "Write up to three different names and the sender's (5 to 15 characters), joined by colons",
        )
    elif signatures(message) and not covers(message, ("feedback-id",)):
        advice = "Have a DKIM signature cover it, or leave it out"
        yield warned("message.feedback-id", "no DKIM signature covers Feedback-ID", advice)
    else:
        yield passed("message.feedback-id", value[:80])
