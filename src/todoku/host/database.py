"""What a service of Todoku's needs for its database on a PostgreSQL server: the password, and the server's authority.

The administrator's file with the password is for root alone. The service, which has given its rights up when it
connects, has a copy that is for its user alone; it goes when no server is named any more that asks for one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from todoku.host.client import Host
from todoku.host.files import FileSeen, difference, look_at
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, Impossible, LookFailed
from todoku.settings import CredentialError
from todoku.settings.credential import read_password
from todoku.store import StoreError
from todoku.store.place import Place

# What systemd hides from a service (ProtectHome=, PrivateTmp=).
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
_ONLINE = "network-online.target"


def resources(place: Place, copy: Path) -> list[HostResource[Any]]:
    """For the user `place.owner`, whom the copy is for."""
    user = frozenset({f"user:{place.owner}", "folder:/var/lib/todoku"})
    password = PasswordCopy(
        reason=f"the server of {place.name} asks who connects",
        source=place.password_file,
        copy=copy,
        whose=f"the password for {place.name}",
        owner=place.owner,
        after=user if place.password_file else frozenset(),
    )
    authority = authority_of(place)
    if authority is None:
        return [password]
    reason = f"the server of {place.name} is verified by it"
    return [password, AuthorityInReach(reason=reason, authority=authority, user=place.owner)]


def needed(place: Place) -> frozenset[str]:
    """What has to be in place before a service that connects starts."""
    authority = authority_of(place)
    password = {_password_id(place.owner)} if place.password_file is not None else set()
    return frozenset(password | ({_authority_id(authority, place.owner)} if authority else set()))


def read_at_start(place: Place) -> tuple[str, ...]:
    """Files that a service takes in by a restart. The password is none of them."""
    authority = authority_of(place)
    return () if authority is None else (str(authority),)


def order(place: Place) -> str:
    """What else the unit of a service that connects is started after."""
    with suppress(StoreError):
        if place.is_remote:
            return f"{_ONLINE} postgresql.service\nWants={_ONLINE}"
    return "network.target postgresql.service"


def authority_of(place: Place) -> Path | None:
    """None also where the address cannot be used: whoever looks at the schema says so."""
    with suppress(StoreError):
        return place.authority
    return None


@dataclass(frozen=True, slots=True)
class CopySeen:
    """The copy as it has to be (None: not at all), and as it is."""

    wanted: RenderedFile | None
    file: FileSeen


@dataclass(frozen=True, kw_only=True)
class PasswordCopy(HostResource[CopySeen]):
    """The password is read from the administrator's file only when looked at: it is in no plan."""

    source: Path | None
    copy: Path
    whose: str = field(default="the password", compare=False)
    owner: str

    @property
    def id(self) -> str:
        return _password_id(self.owner)

    def look(self, client: Host) -> CopySeen:
        if self.source is None:
            stat = client.stat(str(self.copy))
            return CopySeen(None, FileSeen() if stat is None else FileSeen(b"", stat))
        try:
            password = read_password(self.source, self.whose)
        except CredentialError as error:
            raise Impossible(str(error)) from error
        wanted = RenderedFile(
            str(self.copy), f"{password}\n", mode=0o400, owner=self.owner, group=self.owner, secret=True
        )
        return CopySeen(wanted, look_at(wanted, client))

    def differ(self, seen: CopySeen) -> Change | None:
        if seen.wanted is not None:
            return difference(seen.wanted, seen.file)
        if seen.file.stat is None:
            return None
        return Change(Action.DELETE, f"remove {self.copy}: no database_password_file is named any more")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        file = self.look(client).wanted
        if file is None:
            client.remove(str(self.copy))
        else:
            client.replace(
                file.path, file.content.encode(), mode=file.mode, owner=file.owner, group=file.group
            )


@dataclass(frozen=True, kw_only=True)
class AuthorityInReach(HostResource[None]):
    """Nothing is made: looking fails while the service cannot read the file, and says why."""

    authority: Path
    user: str

    @property
    def id(self) -> str:
        return _authority_id(self.authority, self.user)

    def look(self, client: Host) -> None:
        file = client.real(str(self.authority))
        try:
            file = file.resolve(strict=True)
            closed = next((each for each in file.parents if not each.stat().st_mode & 0o001), None)
            closed = closed or (None if file.stat().st_mode & 0o004 else file)
        except OSError as error:
            raise LookFailed(f"the authority {self.authority} cannot be read: {error.strerror}") from error
        hidden = next((each for each in _HIDDEN if _below(each, self.authority, file)), closed)
        if hidden is not None:
            raise LookFailed(
                f"the authority {self.authority} cannot be read by {self.user}, who connects: {hidden} is not for "
                f"everybody. It is no secret: `install -m 644 {self.authority} /etc/ssl/`, and name that file"
            )

    def differ(self, seen: None) -> Change | None:  # noqa: ARG002
        return None

    def change(self, change: Change, client: Host) -> None:
        """Never needed: `differ` says so."""


def _below(folder: str, *files: Path) -> bool:
    return any(file.is_relative_to(folder) for file in files)


def _password_id(owner: str) -> str:
    return f"database-password:{owner}"


def _authority_id(authority: Path, owner: str) -> str:
    return f"database-authority:{authority}:{owner}"
