"""Outbound: mail without a sender (bounces, read receipts, answers that programs give) gets one that the relay takes.

The relay knows approved senders only, and nobody can approve "<>". The sender becomes bounces@, which the
postmaster reads: what fails once more ends there and is not bounced again. A From that is not ours is replaced as
well, its address shown in the name; that of somebody who logged in has to belong to the login as ever.
"""

from __future__ import annotations

from todoku.gate import authentication, rewriting, srs
from todoku.gate.decision import PASS, AddHeader, Change, ChangeHeader, ChangeSender, Decision, Modification
from todoku.gate.direction import Origin, origin, outside
from todoku.gate.message import MessageSoFar


def made_approvable(message: MessageSoFar) -> Decision:
    """Asked before the rules about senders."""
    settings = message.context.settings
    if settings is None or message.sender or not outside(message):
        return PASS
    came_from = origin(message)
    if came_from is Origin.LOGIN:
        return Change([ChangeSender(srs.plain(settings.domains[0].name))])
    if came_from is not Origin.HOST:
        return PASS
    sender = srs.plain(settings.domains[0].name)
    froms = message.headers.all("From")
    changes: list[Modification] = [ChangeSender(sender)]
    domains = authentication.author_domains([header.text for header in froms])
    if not domains or not settings.own_domains.issuperset(domains):
        name, author = rewriting.writer(message)
        value = f" {rewriting.shown(name, author)} <{sender}>"
        changes.append(ChangeHeader("From", value) if froms else AddHeader("From", value))
    return Change(changes)
