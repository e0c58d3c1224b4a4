"""The migrations of one database, as Alembic keeps them in a folder of the package."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


# Alembic's `context` is one for the whole process, and a plan migrates two databases at the same time.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Migrations:
    """Alembic is imported only by what needs it: most commands do not."""

    folder: Path

    def wanted(self) -> str:
        """The schema that this version of Todoku works with."""
        from alembic.script import ScriptDirectory

        head = ScriptDirectory.from_config(self._config()).get_current_head()
        assert head is not None, "the migrations are part of the package"  # noqa: S101
        return head

    def known(self) -> frozenset[str]:
        """All schemas from which this version can go on."""
        from alembic.script import ScriptDirectory

        scripts = ScriptDirectory.from_config(self._config())
        return frozenset(script.revision for script in scripts.walk_revisions())

    def upgrade(self, connection: Connection) -> None:
        """Bring the database to the wanted schema, within the connection's transaction."""
        from alembic import command

        config = self._config()
        config.attributes["connection"] = connection
        with _ONE_AT_A_TIME:
            command.upgrade(config, "head")

    def _config(self) -> Config:
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config
