"""The database of bulk mail: a file of its own or PostgreSQL, opened and migrated as the ledger is.

A file of its own, since others write it: the sender of campaigns and the pages that the world may reach, neither of
which has any business with password hashes or with what people write to each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from todoku.settings.campaign import Campaign
from todoku.store import ledger
from todoku.store.database import StoreError
from todoku.store.ledger import Place, copy_of, current_revision, read, write
from todoku.store.migrating import Migrations

OWNER = "todoku-campaign"
FOLDER = Path("/var/lib/todoku/campaign")
FILE = FOLDER / "campaign.sqlite3"
PASSWORD = Path("/var/lib/todoku/campaign-password")  # a copy of the administrator's, for OWNER
_MIGRATIONS = Migrations(Path(__file__).parent / "campaign_migrations")
# For PostgreSQL's sessions. A worker that is cut off in the middle of a transaction may hold the row that all need for
# the pace: the server would wait for it as long as TCP does, a quarter of an hour or two hours. 15 seconds are half of
# what the others wait before they end with an error.
GIVE_UP_WHO_IS_CUT_OFF = """
    SELECT set_config(name, value, false)
    FROM (VALUES
        ('idle_in_transaction_session_timeout', '15s'), ('tcp_user_timeout', '15s'),
        ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')
    ) AS wanted(name, value)
"""


def place(where: str | None = None, password_file: Path | None = None) -> Place:
    """Where it is: `where` as the settings say it (`campaign.database`), or the file."""
    return Place(where or str(FILE), "the campaign database", OWNER, _MIGRATIONS, password_file, PASSWORD)


def place_of(wanted: Campaign) -> Place:
    """Where it is by the settings."""
    return place(wanted.database, wanted.database_password_file)


def open(where: Place, *, kept: bool = False) -> Engine:
    """An engine for it; `kept` as for the ledger. Raises `StoreError`, also for any schema but the wanted one."""
    engine = ledger.open(where, kept=kept)
    if where.file is None:
        event.listen(engine, "connect", _give_up_who_is_cut_off)
    return engine


def _give_up_who_is_cut_off(connection: Any, _record: Any) -> None:
    connection.cursor().execute(GIVE_UP_WHO_IS_CUT_OFF)
    connection.commit()


def migrate(where: Place) -> None:
    """Make it, or bring it to the wanted schema: all or nothing. Raises `StoreError`."""
    ledger.migrate(where)


def wanted_revision() -> str:
    """The schema that this version of Todoku works with."""
    return _MIGRATIONS.wanted()


__all__ = [
    "FILE",
    "FOLDER",
    "GIVE_UP_WHO_IS_CUT_OFF",
    "OWNER",
    "PASSWORD",
    "Place",
    "StoreError",
    "copy_of",
    "current_revision",
    "migrate",
    "open",
    "place",
    "place_of",
    "read",
    "wanted_revision",
    "write",
]
