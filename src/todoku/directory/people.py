"""Who has mail here, as values: accounts with their addresses, and aliases."""

from __future__ import annotations

import pwd
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from todoku.directory.errors import NoSuchUserError


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody with a mailbox. In system mode `login` is an OS user's name, else it equals `address`."""

    login: str
    address: str  # the primary one
    more: tuple[str, ...] = ()  # further addresses, sorted
    quota: int | None = None  # bytes; 0: no limit; None: as in the settings
    password: str | None = field(
        default=None, repr=False
    )  # an Argon2id hash, or {SCHEME}hash; None in system mode
    created: str = ""  # ISO 8601, UTC

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address, *self.more)

    @property
    def is_system(self) -> bool:
        """Whether it was made in system mode: for an OS user, without the domain in its login."""
        return "@" not in self.login


@dataclass(frozen=True, slots=True)
class Alias:
    """An address whose mail goes to others: addresses here or elsewhere."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """A login may send as `sender`, which is not its own: an address, or "@domain" for all of a domain of ours."""

    login: str
    sender: str


@dataclass(frozen=True)
class Held:
    """Everything that the store holds about people, at one moment."""

    accounts: tuple[Account, ...] = ()
    aliases: tuple[Alias, ...] = ()
    grants: tuple[Grant, ...] = ()

    @cached_property
    def owners(self) -> dict[str, Account]:
        """The account that each address belongs to."""
        return {address: account for account in self.accounts for address in account.addresses}

    @cached_property
    def logins(self) -> dict[str, Account]:
        return {account.login: account for account in self.accounts}

    @cached_property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """The targets of each alias."""
        return {alias.address: alias.targets for alias in self.aliases}

    def granted(self, login: str) -> tuple[str, ...]:
        """What `login` may send as without its being its own."""
        return tuple(grant.sender for grant in self.grants if grant.login == login)

    def leading_to(self, addresses: frozenset[str]) -> tuple[Alias, ...]:
        """The aliases that have one of `addresses` as a target."""
        return tuple(alias for alias in self.aliases if addresses.intersection(alias.targets))


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user of the operating system, as far as mail is concerned."""

    name: str
    uid: int
    gid: int
    home: Path


# Dovecot refuses the mail of users below this (its default for first_valid_uid): they are services.
FIRST_MAIL_UID = 500


def os_user(name: str) -> OsUser:
    """The OS user called `name`. Raises `NoSuchUserError`, also for root and services."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise NoSuchUserError(
            f"this machine has no user {name!r}, and accounts.mode is system: make it first "
            f"(adduser {name}), or name one that exists"
        ) from None
    if entry.pw_uid < FIRST_MAIL_UID:
        raise NoSuchUserError(
            f"the user {name!r} (uid {entry.pw_uid}) belongs to the system, and Dovecot opens mailboxes "
            f"only from uid {FIRST_MAIL_UID} on: give its mail to a person with `todoku alias add`"
        )
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))
