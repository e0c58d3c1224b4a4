"""What can have become of a message for one recipient, and how one state leads to the next.

Accepted by the relay is not delivered: what the relay says later (a bounce, a complaint) replaces it. What is final
stays, whatever an older line of a log says afterwards.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The state's value is its name in the ledger; `sentence` says it to people."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    RELAYED = "relayed"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"
    COMPLAINED = "complained"
    EXPIRED = "expired"
    REFUSED = "refused"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    State.QUEUED: "is in the queue, and has not been tried yet",
    State.DEFERRED: "could not be delivered yet, and will be tried again",
    State.DELIVERED: "was put into the mailbox here",
    State.ACCEPTED: "was accepted by the relay, which has not said yet what became of it",
    State.RELAYED: "was accepted by the recipient's own mail server",
    State.BOUNCED: "was refused for good, and went back",
    State.SUPPRESSED: "was not sent: the recipient is on the relay's suppression list",
    State.COMPLAINED: "arrived, and the recipient reported it as unwanted",
    State.EXPIRED: "could not be delivered in time, and was given up",
    State.REFUSED: "was not taken, and its sender was told so at once",
}
# What a later event replaces a state by, at most: a lower number never replaces a higher one.
_RANK = {
    State.QUEUED: 0,
    State.DEFERRED: 1,
    State.REFUSED: 2,
    State.DELIVERED: 2,
    State.ACCEPTED: 2,
    State.EXPIRED: 3,
    State.RELAYED: 3,
    State.SUPPRESSED: 4,
    State.BOUNCED: 4,
    State.COMPLAINED: 5,
}
UNSETTLED = (State.QUEUED, State.DEFERRED)


def after(before: State | None, event: State) -> State:
    """The state when `event` is heard of in the state `before`."""
    return event if before is None or _RANK[event] >= _RANK[before] else before


def of_attempt(service: str, status: str, words: str) -> State | None:
    """What an attempt of Postfix' makes of a recipient; None when it was only a probe.

    `service` is the delivery agent. The relay is smtp(8), and there is no other smtp(8) here; lmtp(8) is Dovecot.
    """
    match status:
        case "sent":
            if words.startswith("delivered to mailbox") or service.endswith("lmtp"):
                return State.DELIVERED
            return State.ACCEPTED if service.endswith("smtp") else State.DELIVERED
        case "deferred":
            return State.DEFERRED
        case "bounced":
            return State.SUPPRESSED if "uppression" in words else State.BOUNCED
        case "expired":
            return State.EXPIRED
        case _:  # deliverable, undeliverable: address verification
            return None
