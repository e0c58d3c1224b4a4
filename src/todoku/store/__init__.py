"""The database that everything which has to survive is kept in: SQLite (WAL) on one machine.

`open` hands out an engine for a database whose schema is the one that this version of Todoku knows, and
nothing else; `migrate` makes it so. `read` and `write` are the two kinds of transaction.
"""

from todoku.store.database import (
    DEFAULT_PATH,
    StoreError,
    StoreMissingError,
    StoreNewerError,
    StoreOlderError,
    StoreUnusableError,
    current_revision,
    migrate,
    open,
    read,
    wanted_revision,
    write,
)

__all__ = [
    "DEFAULT_PATH",
    "StoreError",
    "StoreMissingError",
    "StoreNewerError",
    "StoreOlderError",
    "StoreUnusableError",
    "current_revision",
    "migrate",
    "open",
    "read",
    "wanted_revision",
    "write",
]
