"""Whether the relay takes bulk mail from us: asked before the first message, with MAIL and RSET and without a message.

Each message has a return address of its own (`settings.returns`), so single approved addresses are not enough: all of
the domain has to be approved, and only the relay itself knows whether it is so by now (`cloud.probe`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from todoku.campaign.opened import Opened
    from todoku.cloud.probe import Answer
    from todoku.settings import Settings


def faults(here: Opened) -> list[str]:
    """What forbids sending, each with what to do; empty when the relay takes both addresses of a message."""
    from todoku.cli.parts import cloud as cloud_parts

    envelope, author = here.return_address(0), here.wanted.sender
    relay = cloud_parts.relay(here.settings)
    answer = relay.takes(envelope, (author,))
    if not answer.accepted:
        return [_envelope(here.settings, envelope, answer)]
    answer = relay.takes(author)
    return [] if answer.accepted else [_fault(here.settings, author, answer)]


def _envelope(settings: Settings, address: str, answer: Answer) -> str:
    shown = (
        f"{address.partition('=')[0]}=...@{address.rpartition('@')[2]}"  # the mark means nothing to people
    )
    return _fault(settings, shown, answer, "each message has a return address of its own")


def _fault(settings: Settings, address: str, answer: Answer, why: str = "") -> str:
    from todoku.cloud.probe import Verdict

    if answer.verdict is Verdict.REFUSED:
        whole = f"@{address.rpartition('@')[2]}"
        because = f"{why}, so the relay has to have approved" if why else "the relay has to have approved"
        return f"{address}: {answer}: {because} all of the domain as {whole}. {_approve(settings, whole)}"
    if answer.verdict in (Verdict.LOGIN_REFUSED, Verdict.NO_LOGIN):
        return f"{answer}. See `todoku credential status`"
    return f"it is not known whether the relay takes this mail, as {answer}. Try again in some minutes"


def _approve(settings: Settings, whole: str) -> str:
    if settings.cloud is None:
        return (
            f"Add the approved sender {whole} in Oracle's console (Email Delivery, Approved Senders); "
            "`todoku check` says when the relay takes it"
        )
    return (
        "`todoku apply --wait` has it approved, as soon as the domain's DKIM key signs; the relay believes a new one "
        "after up to 15 minutes"
    )
