"""Where a database is: a file (SQLite) or a PostgreSQL server, and what that server is verified and convinced by.

A server on this machine knows by the socket who connects ("peer" in pg_hba.conf). One on another host has to show a
certificate of its name (TLS, as libpq's sslmode=verify-full) before anything is sent to it; who connects is then known
by a password. That is read from its file for each connection, so a new one is used without a restart. Root reads the
administrator's file. A service may not get there: it has a copy, which `todoku apply` makes.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from todoku.settings import CredentialError
from todoku.settings.credential import read_password
from todoku.store.database import StoreUnusableError as Unusable
from todoku.store.migrating import Migrations

OWNER = "todoku-agent"
FILE = Path("/var/lib/todoku/ledger/ledger.sqlite3")
LEDGER = Migrations(Path(__file__).parent / "ledger_migrations")
_SOCKETS = "/var/run/postgresql"  # where Debian's PostgreSQL listens


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or "postgresql:///NAME" (with host and user, where they are not the usual ones).

    "?sslrootcert=FILE" names the authority (PEM) of a server on another host; otherwise it is one of the system's.

    The ledger's, unless it says what it is called, whose it is, and its migrations."""

    where: str = str(FILE)
    name: str = "the ledger"
    owner: str = (
        OWNER  # a user of the machine, and the role in PostgreSQL unless the address names another one
    )
    migrations: Migrations = LEDGER
    password_file: Path | None = None  # the administrator's, for root alone
    password_copy: Path | None = None  # of that, for `owner` alone

    @property
    def file(self) -> Path | None:
        """The SQLite file, if it is one."""
        return None if "://" in self.where else Path(self.where)

    @property
    def shown(self) -> str:
        """For people: without options and without anything that could be a password."""
        scheme, sign, rest = self.where.partition("://")
        if not sign:
            return f"{self.name} {self.where}"
        who, at, server = rest.rpartition("@")
        return f"{self.name} {scheme}://{re.sub(':.*', ':...', who, flags=re.DOTALL)}{at}{server.partition('?')[0]}"

    def url(self) -> URL:
        """Raises StoreUnusableError when it cannot be understood."""
        if self.file is not None:
            return URL.create("sqlite", database=str(self.file))
        try:
            given = make_url(self.where)
        except ArgumentError:  # which may repeat all of it
            raise Unusable(f"{self.shown} is no address of a database") from None
        if given.get_backend_name() != "postgresql" or given.password:
            raise Unusable(f'{self.shown} has to be a file or "postgresql:///NAME", without a password')
        # Others could be arguments of the driver: "?host=" would lead elsewhere than what is checked here.
        known = {"application_name", "sslrootcert" if given.host else "host"}
        if unknown := sorted(set(given.query) - known):
            raise Unusable(
                f"{self.shown} has the option {unknown[0]}, which is not taken here: only {', '.join(sorted(known))}"
            )
        url = given.set(drivername="postgresql+pg8000").difference_update_query(["sslrootcert"])
        if not url.host:  # libpq's way to name a folder of sockets: "?host=/var/run/postgresql"
            folder = url.query.get("host", _SOCKETS)
            url = url.difference_update_query(["host"])
            url = url.update_query_dict({"unix_sock": f"{folder}/.s.PGSQL.{url.port or 5432}"})
        return url if url.username else url.set(username=_user(self.owner))

    @property
    def is_remote(self) -> bool:
        """On another host, as far as its address says. Raises StoreUnusableError."""
        host = None if self.file is not None else self.url().host
        return host is not None and not _is_loopback(host)

    @property
    def authority(self) -> Path | None:
        """The file of the authority that its server is verified by, if one is named. Raises StoreUnusableError."""
        if self.file is not None or self.url().host is None:
            return None
        named = make_url(self.where).query.get("sslrootcert")
        if named and not str(named).startswith("/"):
            raise Unusable(f"{self.shown}: sslrootcert={named} is not the whole path of a file")
        return Path(str(named)) if named else None

    @property
    def is_verified(self) -> bool:
        """Not one that a socket reaches, or the loopback without `authority`. Raises StoreUnusableError."""
        return self.is_remote or self.authority is not None

    def tls(self) -> ssl.SSLContext | None:
        """What its server is verified by, if it is. Raises StoreUnusableError."""
        if not self.is_verified:
            return None
        authority = self.authority
        try:
            return ssl.create_default_context(cafile=str(authority) if authority else None)
        except OSError as error:
            raise Unusable(
                f"{self.shown}: the authority {authority} cannot be read: {error.strerror or error}: "
                "name a file with its certificate (PEM)"
            ) from error

    def password(self) -> str:
        """As it is in its file now; empty without one. Raises StoreUnusableError, which never repeats it."""
        if self.password_file is None:
            return ""
        if self.url().host is not None and not self.is_verified:
            # Any user of this machine could listen there while the server is down.
            raise Unusable(
                f"{self.shown}: whoever listens at a port of this machine would be told the password: use the socket "
                "(postgresql:///NAME), or name the authority of the server's certificate with ?sslrootcert=FILE"
            )
        copied = self.password_copy if not _is_ours(self.password_file) else None
        try:
            return read_password(copied or self.password_file, f"the password for {self.name}")
        except CredentialError as error:
            advice = ": `todoku apply` makes it" if copied else ""
            raise Unusable(f"{self.shown} could not be used: {error}{advice}") from None


def _is_ours(file: Path) -> bool:
    if os.geteuid() == 0:
        return True
    with suppress(OSError):
        return file.stat().st_uid == os.geteuid()
    return False


def _is_loopback(host: str) -> bool:
    """By what is written: a name's address could be another one at the next look."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _user(owner: str) -> str:
    """Root asks as the user whom it belongs to, which pg_ident.conf has to allow: one role is enough then."""
    if os.geteuid() == 0:
        with suppress(KeyError):
            return pwd.getpwnam(owner).pw_name
    return pwd.getpwuid(os.geteuid()).pw_name
