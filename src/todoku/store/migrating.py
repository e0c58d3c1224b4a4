"""The migrations of one database, as Alembic keeps them in a folder of the package, and the copy that is taken before.

They go forward only. Who has to go back puts the copy in the place of the database, and the earlier version of Todoku
with it. A migration is one transaction: the copy is for what is only noticed days later. Copying PostgreSQL is in
`postgresql_copy`.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


# Alembic's `context` is one for the whole process, and a plan migrates two databases at the same time.
_ONE_AT_A_TIME = threading.Lock()
_SAID = re.compile(r"""^(revision|down_revision)\b[^=\n]*= *(?:None|["']([0-9a-z_]+)["'])""", re.MULTILINE)
COPIES = 3  # of each database; older ones are removed


@dataclass(frozen=True, slots=True)
class Migrations:
    """Alembic is imported only by what migrates: that takes a quarter of a second, which a plan need not wait for."""

    folder: Path

    def wanted(self) -> str:
        """The schema that this version of Todoku works with."""
        before = self._before()
        (head,) = before.keys() - before.values()  # the migrations are part of the package, and one line
        return head

    def known(self) -> frozenset[str]:
        """All schemas from which this version can go on."""
        return frozenset(self._before())

    def _before(self) -> dict[str, str | None]:
        """Revision -> the one before it, as each migration says in its first lines. Nothing of them is run."""
        # Not with ast.parse: several threads ask, and in Python 3.11 those of one process disturb each other there.
        found: dict[str, str | None] = {}
        for file in sorted((self.folder / "versions").glob("[!_]*.py")):
            said = dict(_SAID.findall(file.read_text(encoding="utf-8")))
            found[said["revision"]] = said["down_revision"] or None
        return found

    @property
    def kind(self) -> str:
        """Of which database they are: "ledger", "campaign"; "" for the directory's."""
        return self.folder.name.removesuffix("migrations").rstrip("_")

    def upgrade(self, connection: Connection, revision: str = "head") -> None:
        """Bring the database to the wanted schema, or to `revision`, within the connection's transaction."""
        from alembic import command

        config = self._config()
        config.attributes["connection"] = connection
        with _ONE_AT_A_TIME:
            command.upgrade(config, revision)

    def _config(self) -> Config:
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config


def copy_path(file: Path, revision: str) -> Path:
    """Where the copy of a SQLite database is, as it was at the schema `revision`."""
    return file.with_name(f"{file.name}.schema-{revision}")


def keep_a_copy(file: Path, revision: str) -> Path:
    """Copy a SQLite database beside itself, as it is at this moment, before it leaves the schema `revision`.

    Only its owner may read the copy. Raises sqlite3.Error, OSError; then nothing is left of it.
    """
    copy = copy_path(file, revision)
    partial = copy.with_name(copy.name + ".partial")
    partial.unlink(missing_ok=True)  # of a run that was killed
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        with (
            closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(partial)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, without journals beside it
        _flush(partial)
        partial.rename(copy)
        _flush(copy.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _forget_old_copies(file, copy)
    return copy


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget_old_copies(file: Path, newest: Path) -> None:
    kept = sorted(
        (path for path in file.parent.glob(f"{file.name}.schema-*") if path != newest),
        key=lambda path: path.lstat().st_mtime,
        reverse=True,
    )
    for path in kept[COPIES - 1 :]:
        with suppress(FileNotFoundError):
            path.unlink()
