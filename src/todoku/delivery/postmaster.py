"""The postmaster hears by mail when something begins to be wrong, and when it is over: once each.

What has been told is kept in the ledger, and changes in the transaction that writes the mail (`notices` sends it): who
is killed in between has done both or neither. The mail does not pass the gate or the relay, which may be what it is
about.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from sqlalchemy import Connection, Engine, delete, insert, select

from todoku.delivery.alarms import CALM, Alarm
from todoku.settings import Settings
from todoku.store import ledger
from todoku.store import ledger_schema as schema

KEY = "alarm:"  # how the keys of these notices begin
_CHECKPOINT = "what the postmaster was told"  # in the table of checkpoints
_LONGEST = 900  # characters of what was found
_SUBJECT = 120


@dataclass(frozen=True, slots=True)
class Told:
    """An alarm that the postmaster has been told of. `since`: seconds since 1970."""

    found: str
    since: float
    calm: float


@dataclass(slots=True)
class Postmaster:
    """Remembers what is wrong. `tell` is called with all alarms each time that somebody has looked."""

    engine: Engine
    settings: Settings
    clock: Callable[[], float] = time.time
    elapsed: Callable[[], float] = time.monotonic  # for how long something lasts, whoever sets the clock
    _told: dict[str, Told] | None = None
    _first: dict[str, float] = field(default_factory=dict)  # when what nobody was told of was seen first
    _last: dict[str, float] = field(default_factory=dict)  # when what was told was seen last

    def tell(self, alarms: Sequence[Alarm]) -> None:
        """Writes the notice about what is new and what is over, if anything is. Raises `StoreError`."""
        told = self._read() if self._told is None else self._told
        now = self.elapsed()
        present = {alarm.name: alarm for alarm in alarms}
        self._first = {name: self._first.get(name, now) for name in present if name not in told}
        self._last = {name: now if name in present else self._last.get(name, now) for name in told}
        began = [present[name] for name, first in self._first.items() if now - first >= present[name].settle]
        over = [name for name in told if name not in present and now - self._last[name] >= told[name].calm]
        # What is in the ledger is remembered only when it is there.
        self._told = self._write(told, began, over) if began or over else told

    def _read(self) -> dict[str, Told]:
        query = select(schema.checkpoint.c.position).where(schema.checkpoint.c.source == _CHECKPOINT)
        with ledger.read(self.engine) as connection:
            kept = connection.execute(query).scalar()
        return {
            name: Told(str(each["found"]), float(each["since"]), float(each.get("calm", CALM)))
            for name, each in json.loads(kept or "{}").items()
        }

    def _write(self, told: dict[str, Told], began: Sequence[Alarm], over: Sequence[str]) -> dict[str, Told]:
        now = self.clock()
        ended = {name: told[name] for name in over}
        told = {name: each for name, each in told.items() if name not in ended}
        told |= {alarm.name: Told(_line(alarm.found), now, alarm.calm) for alarm in began}
        kept = json.dumps({name: asdict(each) for name, each in told.items()})
        subject, words = _words(began, ended, now)
        what = f"{now:.6f} began: {[alarm.name for alarm in began]}, over: {over}"
        with ledger.write(self.engine) as connection:
            connection.execute(delete(schema.checkpoint).where(schema.checkpoint.c.source == _CHECKPOINT))
            connection.execute(insert(schema.checkpoint), {"source": _CHECKPOINT, "position": kept})
            write(connection, self.settings, what, subject, words, now)
        return told


def write(
    connection: Connection, settings: Settings, what: str, subject: str, words: str, now: float
) -> bool:
    """Puts a notice to the postmaster into the ledger, to be sent when the transaction is committed; False when there
    was one about `what` before."""
    digest = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:40]
    if connection.execute(select(schema.notice.c.id).where(schema.notice.c.key == KEY + digest)).first():
        return False
    message_id = f"<{digest}.alarm@{settings.hostname}>"
    row = {
        "key": KEY + digest,
        "recipient": settings.postmaster,
        "message_id": message_id,
        "content": _letter(settings, subject, words, message_id, now),
    }
    connection.execute(insert(schema.notice), {**row, "state": "waiting", "created": now})
    return True


def _words(began: Sequence[Alarm], ended: dict[str, Told], now: float) -> tuple[str, str]:
    """Subject and text."""
    parts = [f"{_sentence(alarm.found)}\nWhat to do: {alarm.advice}.\n" for alarm in began]
    if ended:
        parts += ["It is over, and there is nothing to do about it any more:\n"]
        parts += [f"{_sentence(each.found)}\n(told {_moment(each.since)})\n" for each in ended.values()]
    parts.append(
        "`todoku status` shows the state now. When it is over, you will be told.\n"
        if began
        else "`todoku status` shows the state now.\n"
    )
    first = began[0].found if began else next(iter(ended.values())).found
    more = len(began or ended) - 1
    subject = (
        f"{'ALARM' if began else 'OVER'}: {_line(first)[:_SUBJECT]}{f' (and {more} more)' if more else ''}"
    )
    return subject, f"{_moment(now)}\n\n" + "\n".join(parts)


def _letter(settings: Settings, subject: str, words: str, message_id: str, now: float) -> str:
    message = EmailMessage(policy=SMTP.clone(utf8=False))
    message["From"] = f"Todoku on {settings.hostname} <{settings.host_sender}>"
    message["To"] = settings.postmaster
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 5.1
    message.set_content(words, charset="utf-8", cte="quoted-printable")
    return message.as_bytes().decode("ascii", "replace")


def _line(text: str) -> str:
    """On one line: what others said may be anything."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:_LONGEST]


def _sentence(text: str) -> str:
    line = _line(text)
    return f"{line[:1].upper()}{line[1:]}{'' if line.endswith('.') else '.'}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
