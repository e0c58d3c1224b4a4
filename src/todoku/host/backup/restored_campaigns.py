"""Campaigns of a restored database: those that were being sent when the backup was made come up paused, and none that
was not over, a draft neither, is started before somebody has looked.

Their rows say who had it then. What the database that is still in place knows beyond that is taken over
(`campaign.taken_over`). On another machine there is none: who got it after the backup, nothing here knows before the
relay's log has said so, and who has unsubscribed since would get it at all. So somebody has to look first
(`todoku campaign start --after-restore`).
"""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass

from todoku.campaign import taken_over, tokens
from todoku.campaign.campaigns import PAUSED, RESTORED, STARTED
from todoku.campaign.errors import CampaignError
from todoku.campaign.opened import KEY
from todoku.campaign.taken_over import TakenOver
from todoku.host.backup.backup import BackupError
from todoku.host.client import Host
from todoku.store import campaign as store

DATABASE = str(store.FILE).removeprefix("/")
_WORK = "/var/lib/todoku/.restore/new/"
_UNPACKED = _WORK + DATABASE.removeprefix("var/lib/todoku/")
_KEY = _WORK + str(KEY).removeprefix("/var/lib/todoku/")


@dataclass(frozen=True, slots=True)
class Held:
    """Campaigns that come up paused; and what was taken over, None where nothing could be compared."""

    paused: tuple[str, ...] = ()
    taken_over: TakenOver | None = None


def hold(host: Host, made: str) -> Held:
    """Changes what was unpacked and is not in place yet, so both happen or none.

    `made`: when the backup was, for people. Raises BackupError.
    """
    file = host.real(_UNPACKED)
    if not file.exists():
        return Held()
    being_sent = "FROM campaign WHERE kind = 'bulk' AND state = ?"
    try:
        taken = _take_over(host)
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA trusted_schema = OFF")  # who made the archive is not trusted
            if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'campaign'").fetchone():
                return Held()
            names = [str(name) for (name,) in database.execute(f"SELECT name {being_sent}", (STARTED,))]
            database.execute(
                "UPDATE campaign SET words = ? || coalesce('; ' || words, '') "
                "WHERE kind = 'bulk' AND state NOT IN ('cancelled', 'finished')",
                (f"{RESTORED} {made}",),
            )
            database.execute(
                "UPDATE campaign SET state = ? WHERE kind = 'bulk' AND state = ?", (PAUSED, STARTED)
            )
            database.commit()
    except sqlite3.Error as error:
        raise BackupError(
            f"the database of bulk mail in the backup cannot be used ({error}). Nothing was changed"
        ) from error
    return Held(tuple(names), taken)


def _take_over(host: Host) -> TakenOver | None:
    """Where there is a database in place, with the same key: the digests of who was forgotten are made with it."""
    here = host.real(str(store.FILE))
    try:
        if not stat.S_ISREG(here.lstat().st_mode):
            return None
        keys = tokens.read(host.real(_KEY))
        if keys != tokens.read(host.real(str(KEY))):
            return None
        return taken_over.take_over(host.real(_UNPACKED), here, keys, store.wanted_revision())
    except (FileNotFoundError, CampaignError):
        return None
    except sqlite3.Error:
        # The one in place may be why somebody restores. The other one is looked at next.
        return None
