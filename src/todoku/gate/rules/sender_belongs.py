"""Exactly one From with exactly one address (RFC 5322 3.6.2), which belongs to who sends; the envelope likewise.

Who has logged in may use the addresses that the directory gives the login, its own and those granted. A device, or
this machine itself, has no login and may use any address in our domains (a device's envelope sender is Postfix's to
check). Without this one account could write in the name of another, and the relay would refuse or lose what it does
not know.
"""

from __future__ import annotations

from todoku.gate.addresses import Malformed, addresses
from todoku.gate.decision import PASS, Decision, Refuse
from todoku.gate.direction import Origin, origin
from todoku.gate.message import MessageSoFar

_MOST_LISTED = 10


def sender_belongs(message: MessageSoFar) -> Decision:
    came_from = origin(message)
    if came_from is Origin.WORLD or (came_from is Origin.HOST and not message.sender):
        return PASS  # bounces of our own have no sender that could belong to anybody
    try:
        written = _only_address(message, "From")
        on_behalf = _only_address(message, "Sender") if message.headers.all("Sender") else None
    except Malformed as error:
        return Refuse(550, "5.7.1", str(error))
    if message.login is None:
        if message.context.site.is_own(written):
            return PASS
        return Refuse(550, "5.7.1", f"From says {written}, which is not in {_our_domains(message)}")
    # Without one, as read receipts are, it has got bounces@ where it leaves (null_sender).
    envelope = message.sender if message.sender_given else None
    used = {"The envelope sender is": envelope, "From says": written, "Sender says": on_behalf}
    for where, address in used.items():
        if address is not None and message.login not in message.context.senders.logins(address):
            return Refuse(
                550, "5.7.1", f"{where} {address or 'empty'}, and {_may_use(message, message.login)}"
            )
    return PASS


def _only_address(message: MessageSoFar, name: str) -> str:
    """Malformed, with the whole sentence, unless there is exactly one such header with exactly one address."""
    section = "RFC 5322 3.6.2 asks for one address there"
    found = message.headers.all(name)
    if len(found) != 1:
        raise Malformed(f"The message has {len(found) or 'no'} {name} headers; {section}")
    try:
        written = addresses(found[0].text)
    except Malformed as error:
        raise Malformed(f"{name} {error}; {section}") from None
    if len(written) != 1:
        raise Malformed(f"{name} has {len(written) or 'no'} addresses; {section}")
    return written[0]


def _may_use(message: MessageSoFar, login: str) -> str:
    known = message.context.senders.addresses(login)
    more = f" and {len(known) - _MOST_LISTED} more" if len(known) > _MOST_LISTED else ""
    listed = (f"any address of {each[1:]}" if each.startswith("@") else each for each in known[:_MOST_LISTED])
    return f"{login} may send as {', '.join(listed) or 'nobody'}{more}"


def _our_domains(message: MessageSoFar) -> str:
    return "one of our domains: " + ", ".join(domain.name for domain in message.context.site.domains)
