"""Changes: applied to the message so that later rules see them, and told to the mail server as one difference.

Told at the end and not one by one, because the protocol's header numbers are relative to the headers as they came,
without the mail server's own Received, while inserting at the top moves that one into view (Postfix,
cleanup_milter.c): so values first, then deletions from the last to the first, then what is new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from todoku.gate import decision, replies
from todoku.gate.message import HeaderField, MessageSoFar
from todoku.gate.protocol import Action, Agreement, Step

# As plain numbers, which are ten times as fast to put together.
_ADD_HEADERS, _CHANGE_HEADERS = int(Action.ADD_HEADERS), int(Action.CHANGE_HEADERS)
_ADD_RECIPIENTS, _DELETE_RECIPIENTS = int(Action.ADD_RECIPIENTS), int(Action.DELETE_RECIPIENTS)
_CHANGE_SENDER, _REPLACE_BODY = int(Action.CHANGE_SENDER), int(Action.REPLACE_BODY)


class NotPermitted(Exception):
    """The mail server does not let a milter do this (its milter_protocol is too old)."""


def apply(modification: decision.Modification, message: MessageSoFar) -> None:
    """KeyError or ValueError when there is nothing to change of that name."""
    match modification:
        case decision.AddHeader(name, value):
            message.headers.edit().append(HeaderField(name, value))
        case decision.InsertHeader(name, value):
            message.headers.edit().insert(0, HeaderField(name, value))
        case decision.ChangeHeader(name, value, nth):
            place = message.headers.find(name, nth)
            headers = message.headers.edit()
            headers[place] = HeaderField(headers[place].name, value, headers[place].origin)
        case decision.DeleteHeader(name, None):
            headers = message.headers.edit()
            headers[:] = [header for header in headers if header.name.lower() != name.lower()]
        case decision.DeleteHeader(name, int(nth)):
            place = message.headers.find(name, nth)
            del message.headers.edit()[place]
        case decision.ChangeSender(address):
            message.sender = address
        case decision.AddRecipient(address):
            if address not in message.recipients:
                message.recipients.append(address)
        case decision.DeleteRecipient(address):
            message.recipients[:] = [kept for kept in message.recipients if kept != address]
        case decision.ReplaceBody(body):
            message.replaced_body = body


def touches_content(modification: decision.Modification) -> bool:
    """Whether headers or body are meant, not the envelope."""
    return not isinstance(
        modification, decision.ChangeSender | decision.AddRecipient | decision.DeleteRecipient
    )


def difference(message: MessageSoFar, agreement: Agreement) -> bytes:
    """The packets that turn the message as it came into the message as it stands.

    NotPermitted when the mail server does not allow one of them.
    """
    needed = 0
    packets: list[bytes] = []
    if message.sender != message.sender_given:
        needed |= _CHANGE_SENDER
        packets.append(replies.change_sender(message.sender))
    standing = set(message.recipients)
    for address, as_given in message.recipients_given.items():
        if address not in standing:
            needed |= _DELETE_RECIPIENTS
            packets.append(replies.delete_recipient(as_given))
    for address in message.recipients:
        if address not in message.recipients_given:
            needed |= _ADD_RECIPIENTS
            packets.append(replies.add_recipient(address))
    if message.headers.changed:
        packets += _header_packets(message, leading_space=bool(agreement.steps & Step.LEADING_SPACE))
        needed |= _ADD_HEADERS if len(message.headers) else 0
        needed |= _CHANGE_HEADERS
    if message.replaced_body is not None:
        needed |= _REPLACE_BODY
        packets += replies.replace_body((message.replaced_body,))
    missing = needed & ~int(agreement.actions)
    if missing:
        raise NotPermitted(f"the mail server does not permit: {Action(missing)!r}; milter_protocol = 6 does")
    return b"".join(packets)


def _header_packets(message: MessageSoFar, *, leading_space: bool) -> Iterator[bytes]:
    arrived = message.headers.received
    now = list(message.headers)
    if now[: len(arrived)] == arrived:  # the usual case: nothing but additions
        for header in now[len(arrived) :]:
            yield replies.add_header(header.name, header.value, leading_space=leading_space)
        return
    number: list[int] = []  # of each arrived header among those of its name, from 1
    counts: Counter[str] = Counter()
    for header in arrived:
        counts[header.name.lower()] += 1
        number.append(counts[header.name.lower()])
    standing = {header.origin: header for header in now if header.origin >= 0}
    for origin, header in standing.items():
        if header.value != arrived[origin].value:
            yield replies.change_header(
                header.name, number[origin], header.value, leading_space=leading_space
            )
    for header in reversed(arrived):
        if header.origin not in standing:
            yield replies.delete_header(header.name, number[header.origin])
    yield from _new_headers(now, leading_space=leading_space)


def _new_headers(headers: list[HeaderField], *, leading_space: bool) -> Iterator[bytes]:
    """Ours above the first that came are inserted, bottom up; the others are added in their order."""
    top = next((place for place, header in enumerate(headers) if header.origin >= 0), 0)
    for header in reversed(headers[:top]):
        yield replies.insert_header(header.name, header.value, leading_space=leading_space)
    for header in headers[top:]:
        if header.origin < 0:
            yield replies.add_header(header.name, header.value, leading_space=leading_space)
