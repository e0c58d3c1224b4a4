"""What the postmaster is told by mail: of each matter once in a while, and of one kind of matter not without end.

Who was told what and when is in an SQLite file that the workers share, so that a storm of messages in all of them is
one notice. A notice is handed to Postfix like any other copy of the gate's (`reinjection`), after it was noted: one
that Postfix does not take is taken back from the notes, so that the next occasion tries again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from functools import cache
from pathlib import Path

from todoku.gate import passage, srs
from todoku.gate.reinjection import Copy, Inject, NotTaken, hand_over
from todoku.settings import Settings

FILE = Path("/var/lib/todoku/gate/notices.sqlite3")
HOUR, DAY = 3600, 86400
MOST_AN_HOUR = 20  # notices of one kind; what comes beyond is in the log
_BUSY = 5.0  # seconds to wait for another worker
_REMEMBERED = 32 * DAY

_SCHEMA = "CREATE TABLE IF NOT EXISTS told (kind TEXT, matter TEXT, at INTEGER, PRIMARY KEY (kind, matter))"

log = logging.getLogger("todoku.gate")


@dataclass(frozen=True, slots=True)
class Notice:
    """`matter` within its `kind` is told once in `every` seconds. Lines of `text` may be long."""

    kind: str  # "malware"
    matter: str
    every: int
    subject: str
    text: str


class Notices:
    """Blocks while Postfix takes the notice: to be called in a thread. `hand_over` and `clock` are for tests."""

    def __init__(
        self, path: Path = FILE, inject: Inject = hand_over, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._inject = inject
        self._clock = clock

    def tell(self, notice: Notice, settings: Settings) -> bool:
        """Whether the postmaster is told now. Raises NotTaken, OSError or sqlite3.Error when that was not possible."""
        now = int(self._clock())
        with closing(self._open()) as connection:
            if not _claim(connection, notice, now):
                return False
            try:
                self._inject(_letter(notice, settings, now))
            except NotTaken:
                where = (notice.kind, notice.matter)
                connection.execute("DELETE FROM told WHERE kind = ? AND matter = ?", where)
                raise
        return True

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)
        connection.execute(_SCHEMA)
        return connection


def _claim(connection: sqlite3.Connection, notice: Notice, now: int) -> bool:
    """Notes that it is told now; whether it was time for it. One worker of several gets it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("DELETE FROM told WHERE at < ?", (now - max(_REMEMBERED, notice.every),))
        query = "SELECT count(*) FROM told WHERE kind = ? AND at > ?"
        (lately,) = connection.execute(query, (notice.kind, now - HOUR)).fetchone()
        query = "SELECT at FROM told WHERE kind = ? AND matter = ? AND at > ?"
        told = connection.execute(query, (notice.kind, notice.matter, now - notice.every)).fetchone()
        due = told is None and lately < MOST_AN_HOUR
        if due:
            connection.execute(
                "INSERT INTO told VALUES (?, ?, ?) ON CONFLICT (kind, matter) DO UPDATE SET at = excluded.at",
                (notice.kind, notice.matter, now),
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return due


def _letter(notice: Notice, settings: Settings, now: int) -> Copy:
    domain = settings.postmaster.rpartition("@")[2]
    message = EmailMessage(policy=SMTP.clone(utf8=False))
    message["From"] = f"Todoku on {settings.hostname} <{settings.host_sender}>"
    message["To"] = settings.postmaster
    message["Subject"] = notice.subject
    message["Date"] = formatdate(now)
    message["Message-ID"] = make_msgid(domain=domain)
    message["Auto-Submitted"] = "auto-generated"
    message[passage.NAME] = passage.TOKEN
    message.set_content(notice.text, charset="utf-8", cte="quoted-printable")
    key = f"{notice.kind}\0{notice.matter}\0{now}".encode("utf-8", "surrogateescape")
    return Copy(key, srs.plain(domain), (settings.postmaster,), message.as_bytes())


# -- from a rule, which does not wait for it

_under_way: set[asyncio.Task[None]] = set()


def tell_later(notice: Notice, settings: Settings, notices: Notices | None = None) -> None:
    """Tells it besides what the event loop does; what goes wrong is in the log. A stop of the gate does not wait."""
    task = asyncio.get_running_loop().create_task(_tell(notice, settings, notices or Notices()))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


async def _tell(notice: Notice, settings: Settings, notices: Notices) -> None:
    try:
        loop = asyncio.get_running_loop()
        if await loop.run_in_executor(_thread(os.getpid()), notices.tell, notice, settings):
            log.info("the postmaster is told: %s", notice.subject)
    except Exception:
        log.exception("the postmaster cannot be told now: %s", notice.subject)


@cache
def _thread(_pid: int) -> ThreadPoolExecutor:
    """Of its own, one after the other: a storm must not take the threads of the rules."""
    return ThreadPoolExecutor(1, thread_name_prefix="notices")
