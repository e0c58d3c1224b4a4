"""A delivery status notification: to the sender, in words for people and fields for programs (RFC 3462, RFC 3464)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage, Message
from email.policy import SMTP
from email.utils import format_datetime
from enum import Enum, auto

_STATUS = re.compile(r"^[245]\d\d[ -](5\.\d{1,3}\.\d{1,3})\b")
_UNSAFE = re.compile(r"[^\x20-\x7e]")


class Cause(Enum):
    """Why it did not arrive."""

    REFUSED = auto()  # by the recipient's mail server
    GIVEN_UP = auto()  # it was tried until it was too late
    SUPPRESSED = auto()  # the relay took it, and sends nothing there


# RFC 3463: undefined, delivery time expired, delivery not authorized.
_STATUSES = {Cause.REFUSED: "5.0.0", Cause.GIVEN_UP: "4.4.7", Cause.SUPPRESSED: "5.7.1"}


@dataclass(frozen=True, slots=True)
class Failure:
    """A recipient that a message did not reach, after it had been accepted. Times in seconds since 1970."""

    recipient: str
    words: str  # the other side's
    host: str  # the other side's, or empty
    failed: float
    arrived: float
    message_id: str  # of the message, angle brackets included, or empty
    queue_id: str
    cause: Cause = Cause.REFUSED


def notice(failure: Failure, to: str, hostname: str, sender: str, message_id: str) -> bytes:
    """The notification to `to`, from `sender`, under `message_id`; CRLF line ends."""
    report = EmailMessage(policy=SMTP)
    report["From"] = f"Mail Delivery System <{sender}>"
    report["To"] = to
    report["Subject"] = "Undelivered Mail Returned to Sender"
    report["Date"] = format_datetime(datetime.fromtimestamp(failure.failed, UTC))
    report["Message-ID"] = message_id
    report["Auto-Submitted"] = "auto-replied"  # RFC 3834 3.1.7
    report.set_content(_words(failure, hostname), cte="quoted-printable")
    report.make_mixed()
    report.replace_header("Content-Type", "multipart/report; report-type=delivery-status")
    report.attach(_fields(failure, hostname))
    report.attach(_original(failure, to))
    return report.as_bytes()


def _words(failure: Failure, hostname: str) -> str:
    when = datetime.fromtimestamp(failure.arrived, UTC).strftime("%Y-%m-%d %H:%M UTC")
    said = failure.words or "(nothing)"
    whose = failure.host or "the recipient's mail server"
    if failure.cause is Cause.SUPPRESSED:
        whose = failure.host or "the relay"
        why = "but the relay sends nothing to this address: it is on its suppression list."
        what = (
            "That is so after a message was refused for good, or reported as unwanted. When that is put right, the "
            "postmaster takes the address off the list (`todoku suppression lift`); then send the message again."
        )
    elif failure.cause is Cause.REFUSED:
        why = "but the recipient's mail server refused it later. It will not be tried again."
        what = (
            "Mail to this address is not sent any more until the postmaster allows it again. Correct the address, or "
            "reach the recipient in another way."
        )
    else:
        why = (
            "but the recipient's mail server could not take it, and it was given up after having been tried for a long "
            "time."
        )
        what = (
            "The address may well be right: send the message again later. Should that be refused, as the relay has put "
            "the address on its suppression list, the postmaster can allow it again."
        )
    return (
        f"This is the mail system of {hostname}.\n\n"
        f"Your message of {when} to\n\n    {failure.recipient}\n\n"
        f"did not arrive. It had been accepted for delivery, {why}\n\n"
        f"{whose} said:\n\n    {said}\n\n"
        f"{what}\n\n"
        f"Message-ID: {failure.message_id or '(none)'}\n"
    )


def _fields(failure: Failure, hostname: str) -> EmailMessage:
    """message/delivery-status: the fields of the message, and those of its recipient (RFC 3464 2.2, 2.3)."""
    found = _STATUS.match(failure.words)
    blocks = [
        {
            "Reporting-MTA": f"dns; {hostname}",
            "X-Queue-ID": failure.queue_id,
            "Arrival-Date": _date(failure.arrived),
        },
        {
            "Final-Recipient": f"rfc822; {_plain(failure.recipient)}",
            "Action": "failed",
            "Status": found[1] if found and failure.cause is Cause.REFUSED else _STATUSES[failure.cause],
            "Remote-MTA": f"dns; {_plain(failure.host)}" if failure.host else "",
            "Diagnostic-Code": f"smtp; {_plain(failure.words)}" if failure.words else "",
            "Last-Attempt-Date": _date(failure.failed),
        },
    ]
    part = EmailMessage(policy=SMTP)
    part["Content-Type"] = "message/delivery-status"
    parts: list[Message | str] = []
    for fields in blocks:
        block = Message(policy=SMTP.clone(max_line_length=None))
        for name, value in fields.items():
            if value:
                block[name] = value
        parts.append(block)
    part.set_payload(parts)
    return part


def _original(failure: Failure, sender: str) -> EmailMessage:
    """What is known of the message's header; its contents are kept nowhere."""
    part = EmailMessage(policy=SMTP)
    part["Content-Type"] = "text/rfc822-headers"
    lines = [f"From: {_plain(sender)}", f"To: {_plain(failure.recipient)}", f"Date: {_date(failure.arrived)}"]
    if failure.message_id:
        lines.append(f"Message-ID: {_plain(failure.message_id)}")
    part.set_payload("\r\n".join(lines) + "\r\n")
    return part


def _date(moment: float) -> str:
    return format_datetime(datetime.fromtimestamp(moment, UTC))


def _plain(text: str) -> str:
    """On one line, in ASCII: what others said goes into a header field."""
    return _UNSAFE.sub("?", " ".join(text.split()))[:900]
