"""Connecting to a PostgreSQL server, by both of the drivers that are used: what they are given, and what they say.

Nothing is sent to a server that has not been verified (`Place.tls`), and no password is part of an address, of an
engine, or of what is said about a failure.
"""

from __future__ import annotations

import ssl
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from todoku.store.database import StoreUnusableError as Unusable
from todoku.store.place import Place

_WRONG = "28P01"  # invalid_password, of the server's "PostgreSQL Error Codes"
_FULL, _DEADLOCK = "53100", "40P01"  # disk_full, deadlock_detected
_LET_IN = "look whether PostgreSQL runs{there}, and whether this user may use that database (pg_hba.conf)"


def connect(place: Place, dialect: Any, arguments: Any, options: Any) -> Any:
    """A connection of pg8000 for SQLAlchemy. Raises StoreUnusableError, and what SQLAlchemy takes for its own."""
    from scramp import ScramException  # of pg8000's

    # Without one it is empty: None would be an error of its own in the middle of what the server asks.
    # None is "with TLS if it has that, whoever it is", which a socket has not: False asks nobody.
    verified_by = place.tls() or (None if place.url().host else False)
    secret = {"password": place.password(), "ssl_context": verified_by}
    try:
        return dialect.connect(*arguments, **options, **secret)
    except ssl.SSLError as error:  # which the driver lets through as it is
        raise Unusable(
            f"{place.shown} could not be used: its server was not believed: {error}. Nothing was sent to it: use the "
            "name that is in its certificate, and ?sslrootcert=FILE for an authority that is not one of the system's"
        ) from error
    except ScramException as error:
        raise Unusable(
            f"{place.shown} could not be used: its server did not show that it knows the password ({error}): "
            "look whether it is the right server, and write the password into it anew (ALTER ROLE)"
        ) from error


def for_asyncpg(place: Place, url: URL) -> dict[str, Any]:
    """What asyncpg.connect() needs for the same database. Raises StoreUnusableError."""
    found: dict[str, Any] = {"user": url.username, "database": url.database, "password": place.password()}
    socket = url.query.get("unix_sock")
    if isinstance(socket, str):
        folder, _, port = socket.rpartition("/.s.PGSQL.")
        return {**found, "host": folder, "port": int(port)}
    # Never what asyncpg would do of its own accord: "prefer".
    return {**found, "host": url.host, "port": url.port or 5432, "ssl": place.tls() or False}


def said(error: DBAPIError) -> str:
    """What the server or the driver said, as words. pg8000 hands on the server's fields, M the message."""
    fields = _fields(error)
    return str(fields["M"]) if "M" in fields else str(error.orig)


def advice(place: Place, error: DBAPIError | None = None) -> str:
    """What to do about it."""
    code = None if error is None else _fields(error).get("C")
    if code == _FULL:
        return "make room on the disk of the server, then run it again"
    if code == _DEADLOCK:
        return "somebody else was using it at that moment: run it again"
    refused = code == _WRONG
    if refused and place.password_file is not None:
        return (
            f"write the password of the role {place.url().username} into {place.password_file}, "
            "then run `todoku apply`"
        )
    if refused:
        return "the server asks for a password: write it into a file that database_password_file in todoku.toml names"
    if place.is_verified:
        return _LET_IN.format(there=" there, has TLS (ssl = on)")
    return _LET_IN.format(there="")


def _fields(error: DBAPIError) -> dict[str, Any]:
    found = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return found if isinstance(found, dict) else {}
