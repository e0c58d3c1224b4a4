"""The directory in the plan: its database has the wanted schema, and what was exported is what it holds."""

from __future__ import annotations

import difflib
from collections.abc import Set
from dataclasses import dataclass

from todoku import store
from todoku.directory.contents import PASSWD
from todoku.directory.errors import DirectoryError, ExportFailedError
from todoku.directory.place import Place
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, Resource
from todoku.settings import Settings

SCHEMA_ID = "store:schema"
EXPORT_ID = "directory:export"
_LONGEST_DIFF = 60  # lines


@dataclass(frozen=True)
class StoreSchema(Resource[Place, "str | None"]):
    """The database exists, root's alone, with the schema of this version."""

    requires: frozenset[str] = frozenset()  # ids, of the caller's choosing

    @property
    def id(self) -> str:
        return SCHEMA_ID

    @property
    def why(self) -> str:
        return "accounts, addresses and aliases are kept in it"

    @property
    def needs(self) -> Set[str]:
        return self.requires

    def look(self, client: Place) -> str | None:
        try:
            return store.current_revision(client.database)
        except store.StoreError as error:
            raise LookFailed(str(error)) from error

    def differ(self, seen: str | None) -> Change | None:
        wanted = store.wanted_revision()
        if seen == wanted:
            return None
        if seen is None:
            return Change(Action.CREATE, f"make the database (schema {wanted})")
        return Change(
            Action.UPDATE, f"migrate the database from schema {seen} to {wanted}, keeping what is in it"
        )

    def change(self, change: Change, client: Place) -> None:  # noqa: ARG002
        try:
            store.migrate(client.database)
        except store.StoreError as error:
            raise ChangeFailed(str(error)) from error


@dataclass(frozen=True, slots=True)
class ExportSeen:
    """How the exported files differ from what the store says. `missing`: why there can be no files yet."""

    missing: str = ""
    files: tuple[str, ...] = ()
    diff: str = ""  # without the hashes of passwords


@dataclass(frozen=True)
class DirectoryExport(Resource[Place, ExportSeen]):
    """The files that Postfix and Dovecot read say what the store says."""

    settings: Settings
    requires: frozenset[str] = frozenset()  # ids, of the caller's choosing: packages, users, main.cf

    @property
    def id(self) -> str:
        return EXPORT_ID

    @property
    def why(self) -> str:
        return "Postfix and Dovecot read from it who has mail here"

    @property
    def needs(self) -> Set[str]:
        return self.requires | {SCHEMA_ID}

    def look(self, client: Place) -> ExportSeen:
        try:
            if store.current_revision(client.database) != store.wanted_revision():
                return ExportSeen(missing="the database is not there yet, or is about to be migrated")
            wanted, present = client.open(self.settings).export_differences()
        except ExportFailedError as error:  # on a new machine: Postfix and the users are still to come
            return ExportSeen(missing=str(error))
        except (store.StoreError, DirectoryError, OSError, UnicodeDecodeError) as error:
            raise LookFailed(
                f"the exported directory could not be compared with the store: {error}"
            ) from error
        texts = wanted.texts()
        diffs = (_diff(name, old, texts[name]) for name, old in present.items() if name in texts)
        return ExportSeen(files=tuple(sorted(present)), diff="".join(diffs))

    def differ(self, seen: ExportSeen) -> Change | None:
        if seen.missing:
            return Change(
                Action.CREATE, "export the accounts and aliases for Postfix and Dovecot", seen.missing
            )
        if not seen.files:
            return None
        return Change(
            Action.UPDATE, f"export the accounts and aliases anew: {', '.join(seen.files)}", seen.diff
        )

    def change(self, change: Change, client: Place) -> None:  # noqa: ARG002
        try:
            client.open(self.settings).export()
        except (store.StoreError, DirectoryError) as error:
            raise ChangeFailed(str(error)) from error


def _diff(name: str, old: str, new: str) -> str:
    lines = list(
        difflib.unified_diff(
            _showable(name, old), _showable(name, new), f"{name} (present)", f"{name} (wanted)", "", "", 0
        )
    )
    if not lines and old != new:
        return f"{name}: what follows the login names differs (not shown)\n"
    more = len(lines) - _LONGEST_DIFF
    rest = [f"... and {more} more lines\n"] if more > 0 else []
    return "".join(lines[:_LONGEST_DIFF] + rest)


def _showable(name: str, text: str) -> list[str]:
    """The lines of `text`; of the file with password hashes, only the login names."""
    lines = text.splitlines(keepends=True)
    if name != PASSWD:
        return lines
    return [
        line if line.startswith("#") else f"{line.partition(':')[0]}:(hidden)\n"
        for line in lines
        if ":" in line
    ]
