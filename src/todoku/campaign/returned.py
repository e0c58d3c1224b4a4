"""What has come back: bounces and complaints, as the gate puts them into a folder, change the state of people.

Whose it is, is never taken from what the report says: only a sealed mark in the address that it came to, or the sealed
link in the message that is in it, so nobody can write a bounce for somebody else. An address that is not there gets
nothing more at once; a mailbox that is full, or a server that cannot be reached, only after it has been so for a while.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from todoku.campaign import bounces, lists
from todoku.campaign.bounces import Said, What
from todoku.campaign.message import UNSUBSCRIBE
from todoku.campaign.opened import Opened
from todoku.settings import returns
from todoku.store import campaign_schema as schema

log = logging.getLogger("todoku.campaign")

FOLDER = Path("/var/lib/todoku/returned")
SOFT_MOST, SOFT_DAYS, SOFT_SPAN = 4, 90, 14  # so many messages in so many days, over at least so many
_DAY = 86_400.0
_AT_ONCE = 200
_LATER = {
    What.HARD: "bounced",
    What.SOFT: "bounced",
    What.COMPLAINT: "complained",
    What.UNSUBSCRIBE: "unsubscribed",
}


def collect(opened: Opened, folder: Path = FOLDER) -> int:
    """Reads what is there and removes it; how many were about messages of ours. Raises `StoreError`; then what was not
    written yet is still there."""
    try:
        names = sorted(each for each in folder.iterdir() if not each.name.startswith("."))[:_AT_ONCE]
    except FileNotFoundError:
        return 0
    except OSError as error:
        log.warning("%s cannot be read: %s", folder, error.strerror)
        return 0
    ours = 0
    for path in names:
        try:
            address, _, octets = path.read_bytes().partition(b"\n")
            ours += hear(opened, address.decode("ascii", "replace").strip(), octets)
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # another worker was faster
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error.strerror)
    return ours


def hear(opened: Opened, address: str, octets: bytes) -> bool:
    """One message that came to `address`. Whether it was about a message of ours. Raises `StoreError`."""
    said = bounces.read(octets)
    if said is None:
        return False
    recipient = _recipient(opened, address, said)
    if recipient is None:
        log.info("a %s report came to %s that is about no message of ours", said.what, address)
        return False
    with opened.write() as connection:
        return _note(opened, connection, recipient, said)


def _recipient(opened: Opened, address: str, said: Said) -> int | None:
    mark = returns.read(opened.wanted, address)
    if mark is None:
        return None
    if mark != returns.REPORTS:
        return opened.keys.marked(mark)
    # Providers send all reports to one address: the link in the message that they send along says whose it was.
    links = (opened.keys.opened(token, UNSUBSCRIBE) for token in said.tokens)
    return next((link.recipient for link in links if link is not None and link.recipient), None)


def _note(opened: Opened, connection: Connection, recipient: int, said: Said) -> bool:
    got, table, now = schema.recipient, schema.bounce, opened.clock()
    row = connection.execute(
        select(got.c.id, got.c.subscriber, got.c.later, schema.campaign.c.list)
        .join(schema.campaign, schema.campaign.c.id == got.c.campaign)
        .where(got.c.id == recipient)
    ).first()
    if row is None or row.subscriber is None:
        return False
    here = (table.c.recipient == recipient) & (table.c.what == said.what.value)
    if connection.execute(select(table.c.id).where(here)).first():
        return True
    new = {"subscriber": row.subscriber, "recipient": recipient, "time": now, "what": said.what.value}
    connection.execute(insert(table), {**new, "status": said.status, "words": said.words})
    if said.what is What.UNSUBSCRIBE:
        lists.unsubscribe(connection, row.list, row.subscriber, said.words, now, recipient)
        return True
    if row.later is None:
        connection.execute(update(got).where(got.c.id == recipient).values(later=_LATER[said.what]))
    _block(connection, row, said, now)
    return True


def _block(connection: Connection, row: Any, said: Said, now: float) -> None:
    words = f"{said.status} {said.words}".strip()
    if said.what is What.SOFT:
        table = schema.bounce
        soft = (table.c.subscriber == row.subscriber) & (table.c.what == What.SOFT.value)
        count, first = connection.execute(
            select(func.count(), func.min(table.c.time)).where(soft, table.c.time > now - SOFT_DAYS * _DAY)
        ).one()
        if count < SOFT_MOST or now - first < SOFT_SPAN * _DAY:
            return
        words = f"{count} messages in {(now - first) / _DAY:.0f} days did not arrive; last: {words}"
    blocked = "complained" if said.what is What.COMPLAINT else "bounced"
    person = schema.subscriber
    before = person.c.blocked.is_(None) | (person.c.blocked == "suppressed")
    if blocked == "complained":
        before |= person.c.blocked == "bounced"
    connection.execute(
        update(person)
        .where(person.c.id == row.subscriber, before)
        .values(blocked=blocked, blocked_since=now, blocked_words=words)
    )
