"""Where the directory is kept on a machine: what the command line opens, and the client of the resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from todoku import store
from todoku.directory.directory import Directory
from todoku.directory.export import Exporter
from todoku.directory.people import OsUser, os_user
from todoku.settings import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """The database and the exported files; the defaults are those of an installed system."""

    database: Path = store.DEFAULT_PATH
    exporter: Exporter = field(default_factory=Exporter)
    find_user: Callable[[str], OsUser] = os_user

    def open(self, settings: Settings) -> Directory:
        """The directory that is kept here. Raises `store.StoreError`."""
        return Directory(store.open(self.database), settings, self.exporter, find_user=self.find_user)


HERE = Place()
