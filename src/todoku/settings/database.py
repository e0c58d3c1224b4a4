"""The address of a PostgreSQL database, and the file with its password, which itself is never in the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from todoku.settings.problems import Fault, wrong

if TYPE_CHECKING:
    from todoku.settings.models import Settings

SECRETS = "/etc/todoku/secrets"
ABOUT_DATABASE = (
    "As postgresql:///NAME for one on this machine, where the socket says who connects, or as "
    "postgresql://ROLE@HOST/NAME: a server on another host has to have TLS and a certificate of that name, from one of "
    "the system's authorities or from that of ?sslrootcert=FILE. A file below /var/lib/todoku unless you say otherwise."
)
ABOUT_ITS_FILE = (
    "A file that only root can read, with the role's password alone in it, for a server that asks for one. "
    "`todoku apply` makes a copy for the one service that connects; a new password is used from the next connection on."
)
_IN_ITS_FILE = (
    "write the address without it, and the password alone into a file that only root can read: "
    'database_password_file = "{file}"'
)
_NOT_AN_ADDRESS = 'write it as "postgresql:///todoku" or "postgresql://ROLE@db.hoge.example/todoku"'
# libpq's ways to give one, or the place of one, as an option.
_PASSWORD_OPTION = re.compile(r"[?&][a-z]*pass[a-z]*=", re.IGNORECASE)


def _address(value: Any) -> str:
    """Never repeated in what is said about it: there may be a password in it."""
    if not isinstance(value, str) or not value.startswith(("postgresql://", "postgres://")):
        raise wrong("is not the address of a database in PostgreSQL", _NOT_AN_ADDRESS)
    before, at, _ = value.partition("://")[2].rpartition("@")
    if (at and ":" in before) or _PASSWORD_OPTION.search(value):
        fix = _IN_ITS_FILE.format(file=f"{SECRETS}/database")
        raise wrong("has a password in it, and this file is no place for secrets", fix)
    if not value.startswith("postgresql://"):
        raise wrong("begins with postgres://, not with postgresql://", _NOT_AN_ADDRESS)
    try:
        place = urlsplit(value)
        assert place.port != 0  # noqa: S101 - asked for its ValueError
    except (ValueError, AssertionError):
        raise wrong("is no address that can be understood", _NOT_AN_ADDRESS) from None
    if not value.isprintable() or " " in value or place.fragment or not place.path.strip("/"):
        raise wrong("does not say which database", _NOT_AN_ADDRESS)
    return value


def _file(value: Any) -> Path:
    """Not repeated either: somebody may have written the password in the place of its file."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise wrong("is not the whole path of a file", f'write for example "{SECRETS}/database"')
    return Path(value)


PostgresqlUrl = Annotated[str, BeforeValidator(_address)]
PasswordFile = Annotated[Path, BeforeValidator(_file)]


def databases_fit(settings: Settings) -> Iterator[Fault]:
    """A rule: a password of no database would be read by nobody, and two schemas do not fit into one database."""
    for name, table in (("ledger", settings.ledger), ("campaign", settings.campaign)):
        if table is not None and table.database_password_file is not None and table.database is None:
            yield Fault(
                (name, "database_password_file"),
                "is given without database: there is no server that would ask for it",
                f'add database = "postgresql://ROLE@db.hoge.example/todoku" below [{name}], or remove it',
            )
    if settings.campaign is None or settings.campaign.database is None or settings.ledger.database is None:
        return
    if _which(settings.campaign.database) == _which(settings.ledger.database):
        yield Fault(
            ("campaign", "database"),
            "is the ledger's as well, and each needs one of its own",
            "make another database on the same server, and name that",
        )


def _which(address: str) -> tuple[str, str, str]:
    """Host, path and options: the role does not matter."""
    parts = urlsplit(address)
    return parts.netloc.rpartition("@")[2].lower(), parts.path, parts.query
