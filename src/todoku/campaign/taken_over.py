"""What the database of bulk mail that is in place knows, and that of an older backup does not: taken over before the
older one is put in its place. So on the machine that the backup was made on nobody gets a message twice, and who has
unsubscribed or was forgotten since then stays so.

Plain SQL over two files, since neither is opened by a service at that moment. People and messages are the same when
their numbers and their names are: numbers are never used again (`store.campaign_schema`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from todoku.campaign.tokens import Keys

# `main` and o: what was restored; `here` and n: what is in place.
_SENT = """
    UPDATE main.recipient AS o
    SET state = n.state, settled = n.settled, code = n.code, words = n.words, due = n.due, attempts = n.attempts,
        variant = n.variant, later = n.later, relayed = n.relayed, owner = NULL
    FROM here.recipient AS n, main.campaign AS oc, here.campaign AS nc
    WHERE o.id = n.id AND o.campaign = n.campaign AND o.subscriber IS n.subscriber
      AND oc.id = o.campaign AND nc.id = oc.id AND nc.name = oc.name AND nc.created = oc.created
      AND o.state IN ('ready', 'leased', 'deferred')
      AND n.state IN ('sent', 'failed', 'suppressed', 'unsubscribed')
"""
_UNSUBSCRIBED = """
    UPDATE main.subscription AS o
    SET state = 'unsubscribed', since = n.since, has_evidence = 0
    FROM here.subscription AS n, main.subscriber AS op, here.subscriber AS np, main.list AS ol, here.list AS nl
    WHERE o.list = n.list AND o.subscriber = n.subscriber
      AND n.state = 'unsubscribed' AND o.state != 'unsubscribed' AND n.since > o.since
      AND op.id = o.subscriber AND np.id = op.id AND np.address = op.address
      AND ol.id = o.list AND nl.id = ol.id AND nl.name = ol.name
"""
_EVIDENCE = """
    INSERT INTO main.consent (list, subscriber, time, what, source, text)
    SELECT n.list, n.subscriber, n.time, n.what, n.source, n.text FROM here.consent AS n
    JOIN main.subscription AS o ON o.list = n.list AND o.subscriber = n.subscriber
      AND o.state = 'unsubscribed' AND o.since = n.time
    JOIN main.subscriber AS op ON op.id = n.subscriber
    JOIN here.subscriber AS np ON np.id = op.id AND np.address = op.address
    WHERE n.what = 'unsubscribed' AND NOT EXISTS (
      SELECT 1 FROM main.consent AS c WHERE c.list = n.list AND c.subscriber = n.subscriber AND c.time = n.time
    )
"""
_BLOCKED = """
    UPDATE main.subscriber AS o
    SET blocked = n.blocked, blocked_since = n.blocked_since, blocked_words = n.blocked_words
    FROM here.subscriber AS n
    WHERE o.id = n.id AND o.address = n.address AND n.blocked IS NOT NULL AND o.blocked IS NULL
"""
_ENDED = """
    UPDATE main.campaign AS o SET state = n.state, ended = n.ended, words = NULL
    FROM here.campaign AS n
    WHERE o.id = n.id AND o.name = n.name AND o.created = n.created AND n.state IN ('cancelled', 'finished')
"""
_LEFT_OF_CANCELLED = """
    UPDATE main.recipient SET state = 'cancelled'
    WHERE state IN ('ready', 'leased', 'deferred')
      AND campaign IN (SELECT id FROM main.campaign WHERE state = 'cancelled')
"""
# As `persons.forget`.
_FORGET = (
    "UPDATE main.recipient SET state = 'unsubscribed' WHERE subscriber = ? "
    "AND state IN ('ready', 'leased', 'deferred')",
    "DELETE FROM main.attempt WHERE recipient IN (SELECT id FROM main.recipient WHERE subscriber = ?)",
    "DELETE FROM main.reaction WHERE recipient IN (SELECT id FROM main.recipient WHERE subscriber = ?)",
    "DELETE FROM main.bounce WHERE subscriber = ?",
    "UPDATE main.recipient SET words = NULL, subscriber = NULL WHERE subscriber = ?",
    "DELETE FROM main.subscriber WHERE id = ?",
)
# They are two states of one database: the same schema, and the same oldest list.
_ALIKE = """
    SELECT (SELECT version_num FROM main.alembic_version) = (SELECT version_num FROM here.alembic_version)
      AND EXISTS (
        SELECT 1 FROM main.list AS o JOIN here.list AS n USING (id, name, created)
        WHERE o.id = (SELECT min(id) FROM main.list)
      )
"""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """How many messages were settled since the backup, how many people unsubscribed, and how many were forgotten."""

    settled: int = 0
    unsubscribed: int = 0
    forgotten: int = 0

    def __bool__(self) -> bool:
        return bool(self.settled or self.unsubscribed or self.forgotten)


def take_over(restored: Path, here: Path, keys: Keys, wanted: str) -> TakenOver | None:
    """Changes `restored` (a file), never `here`; all of it or nothing. None: they are not two states of one database of
    the schema `wanted`. Raises sqlite3.Error.
    """
    with closing(sqlite3.connect(restored.as_uri(), uri=True, isolation_level=None)) as database:
        for pragma in ("trusted_schema = OFF", "foreign_keys = ON", "secure_delete = ON"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("ATTACH ? AS here", (f"{here.as_uri()}?mode=ro",))
        versions = database.execute("SELECT version_num FROM main.alembic_version").fetchall()
        if versions != [(wanted,)] or database.execute(_ALIKE).fetchone() != (1,):
            return None
        database.execute("BEGIN IMMEDIATE")
        settled = database.execute(_SENT).rowcount
        unsubscribed = database.execute(_UNSUBSCRIBED).rowcount
        for statement in (_EVIDENCE, _BLOCKED, _ENDED, _LEFT_OF_CANCELLED):
            database.execute(statement)
        forgotten = _forget(database, keys)
        database.execute("COMMIT")  # closing it without takes everything back
        return TakenOver(settled, unsubscribed, forgotten)


def _forget(database: sqlite3.Connection, keys: Keys) -> int:
    """Who asked for it since then, and has not come back; how many there still were."""
    new = dict(
        database.execute(
            "SELECT digest, since FROM here.forgotten WHERE digest NOT IN (SELECT digest FROM main.forgotten)"
        ).fetchall()
    )
    if not new:
        return 0
    gone = []
    for number, address, created in database.execute("SELECT id, address, created FROM main.subscriber"):
        digest = keys.digest("forgotten", address)
        if created < new.get(digest, created):
            gone.append(number)
        else:
            new.pop(digest, None)
    for number in gone:
        for statement in _FORGET:
            database.execute(statement, (number,))
    database.executemany("INSERT INTO main.forgotten (digest, since) VALUES (?, ?)", new.items())
    return len(gone)
