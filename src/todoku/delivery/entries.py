"""What a mail log says about messages, as values. `time`: seconds since 1970; `queue_id`: as Postfix wrote it."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Handed(NamedTuple):
    """smtpd(8) or pickup(8) took a message from a client; `client` is empty for one made on this machine."""

    time: float
    queue_id: str
    service: str  # "submission/smtpd", "smtpd", "pickup"
    client: str  # "name[address]"
    login: str


class Named(NamedTuple):
    """cleanup(8) saw its Message-ID, angle brackets included."""

    time: float
    queue_id: str
    message_id: str


class Active(NamedTuple):
    """qmgr(8) has it in the active queue, at its first and at every later try."""

    time: float
    queue_id: str
    sender: str
    size: int
    recipients: int


class Attempt(NamedTuple):
    """A delivery agent tried one recipient."""

    time: float
    queue_id: str
    service: str  # "smtp", "lmtp", "error"
    address: str
    original: str  # orig_to, or empty
    host: str  # "smtp.example[192.0.2.1]:587", "none"
    dsn: str
    status: str  # "sent", "deferred", "bounced", "undeliverable", ...
    words: str


class Noticed(NamedTuple):
    """bounce(8) wrote a notice about it, which is a message of its own."""

    time: float
    queue_id: str
    kind: str  # "sender non-delivery notification", "sender delay notification", ...
    notice: str  # queue id


class Expired(NamedTuple):
    """qmgr(8) gave it up: it has been in the queue for too long."""

    time: float
    queue_id: str
    sender: str


class Removed(NamedTuple):
    """It left the queue: nothing more will be said about it."""

    time: float
    queue_id: str


class Rejected(NamedTuple):
    """smtpd(8) or cleanup(8) said no. `queue_id` is empty before DATA."""

    time: float
    queue_id: str
    service: str
    stage: str  # "RCPT", "MAIL", "END-OF-MESSAGE", ...
    client: str
    words: str
    sender: str
    recipient: str
    by_gate: bool  # milter-reject: the gate's own record says more


class Decided(NamedTuple):
    """The gate's own record of what it decided (`gate.record`)."""

    time: float
    queue_id: str  # empty before DATA
    decision: str  # "passed", "refused", "held back"
    rule: str
    words: str  # "550 5.7.1 ..."
    login: str
    client: str
    sender: str
    recipients: tuple[str, ...]
    message_id: str
    size: int
    subject: str | None


class Told(NamedTuple):
    """The relay's suppression list has this address. `message_id`: of the message that was the cause, or empty."""

    time: float
    queue_id: str  # always empty
    address: str
    reason: str  # "HARDBOUNCE", "COMPLAINT", "MANUAL", ...
    message_id: str
    detail: str  # the other side's words
    source: str  # the other side's host
    day: str


class Heard(NamedTuple):
    """A record of the relay's own log (`delivery.relay_log`)."""

    time: float
    queue_id: str  # always empty
    id: str  # the record's own: it may be read twice
    action: str  # "relay", "bounce", "soft bounce", "complaint", "suppressed"
    address: str  # lower case
    message_id: str  # without angle brackets
    words: str  # the other side's
    host: str


Entry: TypeAlias = (
    Handed | Named | Active | Attempt | Noticed | Expired | Removed | Rejected | Decided | Told | Heard
)
