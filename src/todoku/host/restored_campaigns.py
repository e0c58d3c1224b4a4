"""Campaigns of a restored database: those that were being sent when the backup was made come up paused.

Their rows say who had it then. Who got it afterwards, nothing here knows: they would get it again, and who has
unsubscribed since would get it at all. So somebody has to look first (`todoku campaign start --after-restore`).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from todoku.campaign.campaigns import PAUSED, RESTORED, STARTED
from todoku.host.backup import BackupError
from todoku.host.client import Host
from todoku.store import campaign as store

DATABASE = str(store.FILE).removeprefix("/")
_UNPACKED = "/var/lib/todoku/.restore/new/" + DATABASE.removeprefix("var/lib/todoku/")


def hold(host: Host, made: str) -> tuple[str, ...]:
    """Pauses them in what was unpacked and is not in place yet, so both happen or none; their names.

    `made`: when the backup was, for people. Raises BackupError.
    """
    file = host.real(_UNPACKED)
    if not file.exists():
        return ()
    being_sent = "FROM campaign WHERE kind = 'bulk' AND state = ?"
    try:
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA trusted_schema = OFF")  # who made the archive is not trusted
            if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'campaign'").fetchone():
                return ()
            names = [str(name) for (name,) in database.execute(f"SELECT name {being_sent}", (STARTED,))]
            database.execute(
                "UPDATE campaign SET state = ?, words = ? WHERE kind = 'bulk' AND state = ?",
                (PAUSED, f"{RESTORED} {made}", STARTED),
            )
            database.commit()
    except sqlite3.Error as error:
        raise BackupError(
            f"the database of bulk mail in the backup cannot be used ({error}). Nothing was changed"
        ) from error
    return tuple(names)
