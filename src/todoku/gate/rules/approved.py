"""Mail for the outside has senders that the relay has approved: both the envelope's and the header's.

Oracle's page "Managing Approved Senders": both have to be approved, by address or by domain; everything else is
refused at the relay, when whoever wrote it has long gone on. Nothing is refused while it is not known what is
approved, and From has been judged before.
"""

from __future__ import annotations

from todoku.gate.addresses import addresses
from todoku.gate.decision import PASS, Decision, Refuse
from todoku.gate.direction import outbound, outside
from todoku.gate.message import MessageSoFar


def approved(message: MessageSoFar) -> Decision:
    if message.context.approved is None or not message.sender or not outbound(message):
        return PASS
    recipients = outside(message)
    if not recipients:
        return PASS
    for address in (message.sender, *addresses(message.headers.first("From") or "")):
        if not _is_approved(address, message.context.approved):
            return Refuse(
                550,
                "5.7.1",
                f"The relay, through which mail to {recipients[0]} leaves, does not know the sender {address}: "
                "ask the postmaster to run `todoku apply`, which has it approved there",
            )
    return PASS


def _is_approved(address: str, known: frozenset[str]) -> bool:
    address = address.lower()
    return address in known or "@" + address.rpartition("@")[2] in known
