"""Notices to senders, and to the postmaster: exactly one for each message and cause.

A notice is written into the ledger in the transaction that finds out what it is about. To send it is to mark it as
being sent, to hand it to Postfix, and to mark it as sent. Whoever is killed in between does not know whether Postfix
took it. But the log does: there it has its Message-ID, and a size once it is in the queue. So after a start, what was
being sent is first looked for in the ledger, and sent only when it is not there.
"""

from __future__ import annotations

import hashlib
import logging
import smtplib
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from todoku.delivery import dsn, postmaster
from todoku.delivery.dsn import Cause
from todoku.delivery.record import Changed
from todoku.delivery.states import State
from todoku.settings import Settings, ports
from todoku.store import ledger
from todoku.store import ledger_schema as schema

log = logging.getLogger("todoku.agent")

SERVER = (ports.LOOPBACK, ports.FORWARD)  # Postfix, for this machine's own mail (master.cf)
TO_THE_POSTMASTER = (ports.LOOPBACK, ports.ALARM)  # to nobody else, and not through the gate
DOUBT = 10.0  # seconds after a start until the log has certainly been read
_AT_ONCE = 20
_SECONDS = 60  # for one answer
_ACCEPTED = (State.ACCEPTED, State.RELAYED)

_CAUSES = {
    State.BOUNCED: Cause.REFUSED,
    State.EXPIRED: Cause.GIVEN_UP,
    State.SUPPRESSED: Cause.SUPPRESSED,
}

# Hands a message to Postfix: to whom, and the octets. Raises smtplib.SMTPException or OSError.
HandOver = Callable[[str, bytes], None]


def hand_over(to: str, content: bytes, server: tuple[str, int] = SERVER) -> None:
    """With the null sender, so that nobody answers it (RFC 3464 2)."""
    with smtplib.SMTP(*server, local_hostname="localhost", timeout=_SECONDS) as smtp:
        smtp.sendmail("", [to], content)


def hand_over_alarm(to: str, content: bytes) -> None:
    """To the postmaster."""
    hand_over(to, content, TO_THE_POSTMASTER)


class Writer:
    """`record.Listener`: writes the notices about what has changed, within the same transaction."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, connection: Connection, changes: Sequence[Changed]) -> None:
        for change in changes:
            if change.before in _ACCEPTED and change.now in _CAUSES:
                self._write(connection, change)
            if change.now is State.COMPLAINED:
                self._tell_of_complaint(connection, change)

    def _tell_of_complaint(self, connection: Connection, change: Changed) -> None:
        """The postmaster, once a day for each sender: a campaign may have many at once."""
        sender, when = str(change.message.values["sender"] or "?"), time.gmtime(change.time)
        words = (
            f"{change.recipient.values['address']} reported mail of {sender} as unwanted.\n\n"
            f"Message-ID: {change.message.values['message_id'] or '(none)'}\n\n"
            "The relay sends nothing there any more. Too many complaints, and it stops all mail: find out why it was "
            "unwanted (`todoku trace` has the message), and write to nobody who has not asked for it. More complaints "
            "about this sender are not told today; `todoku stats --by account` counts them.\n"
        )
        what = f"complaint {sender} {time.strftime('%Y-%m-%d', when)}"
        subject = f"Complaint about mail of {sender}"
        postmaster.write(connection, self._settings, what, subject, words, change.time)

    def _write(self, connection: Connection, change: Changed) -> None:
        to = str(change.message.values["sender"] or "")
        # Nobody outside is written to: their own mail server was told, or they cannot be told apart from a forger.
        if not to or not self._settings.is_own(to) or to.startswith(("srs0", "srs1")):
            return
        key = f"bounced:{change.recipient.id}"
        if connection.execute(select(schema.notice.c.id).where(schema.notice.c.key == key)).first():
            return
        digest = hashlib.sha256(
            f"{key} {change.message.values['queue_id']} {change.time}".encode()
        ).hexdigest()
        message_id = f"<{digest[:32]}.notice@{self._settings.hostname}>"
        failure = dsn.Failure(
            recipient=change.recipient.values["address"],
            words=change.recipient.values["words"] or "",
            host=change.host,
            failed=change.time,
            arrived=change.message.values["arrived"],
            message_id=change.message.values["message_id"] or "",
            queue_id=change.message.values["queue_id"] or "",
            cause=_CAUSES[change.now],
        )
        content = dsn.notice(failure, to, self._settings.hostname, self._settings.postmaster, message_id)
        row = {
            "key": key,
            "recipient": to,
            "message_id": message_id,
            "content": content.decode("ascii", "replace"),
        }
        connection.execute(insert(schema.notice), {**row, "state": "waiting", "created": change.time})


class Sender:
    """Sends what waits. `send` is called from time to time; all of it raises `StoreError`."""

    def __init__(
        self,
        engine: Engine,
        hand_over: HandOver = hand_over,
        clock: Callable[[], float] = time.monotonic,
        hand_over_alarm: HandOver = hand_over_alarm,
    ) -> None:
        self._engine = engine
        self._hand_over = hand_over
        self._hand_over_alarm = hand_over_alarm
        self._clock = clock
        self._began = clock()
        self._in_doubt = True

    def send(self) -> None:
        if self._in_doubt and self._clock() - self._began >= DOUBT:
            self._clear_up()
            self._in_doubt = False
        for row in self._rows("waiting"):
            self._mark(row.id, "sending")
            self._mark(row.id, self._send(row))

    def _send(self, row: Any) -> str:
        give = self._hand_over_alarm if row.key.startswith(postmaster.KEY) else self._hand_over
        try:
            give(row.recipient, row.content.encode("ascii", "replace"))
        except smtplib.SMTPResponseException as error:
            return self._not_taken(row, error, for_good=error.smtp_code // 100 == 5)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            return self._not_taken(row, error, for_good=all(code // 100 == 5 for code in codes))
        except (smtplib.SMTPException, OSError) as error:
            return self._not_taken(row, error, for_good=False)
        return "sent"

    def _not_taken(self, row: Any, error: Exception, *, for_good: bool) -> str:
        if for_good:
            log.error("the notice %s to %s is refused: %s", row.key, row.recipient, error)
            return "refused"
        log.warning("the notice %s to %s waits: %s", row.key, row.recipient, error)
        return "waiting"

    def _clear_up(self) -> None:
        """What was being sent when the last agent ended."""
        message = schema.message
        for row in self._rows("sending"):
            taken = select(message.c.id).where(
                message.c.message_id == row.message_id, message.c.size.is_not(None)
            )
            with ledger.read(self._engine) as connection:
                found = connection.execute(taken).first() is not None
            self._mark(row.id, "sent" if found else "waiting")

    def _rows(self, state: str) -> Sequence[Any]:
        query = select(schema.notice).where(schema.notice.c.state == state).order_by(schema.notice.c.id)
        with ledger.read(self._engine) as connection:
            return connection.execute(query.limit(_AT_ONCE)).all()

    def _mark(self, number: int, state: str) -> None:
        with ledger.write(self._engine) as connection:
            connection.execute(update(schema.notice).where(schema.notice.c.id == number).values(state=state))
