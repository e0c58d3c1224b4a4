"""The directory: every change is checked, stored in one transaction, exported, and in force within a second.

The order makes sure that nothing is lost. Under a lock: check and write within the transaction, write the
new files beside the old ones (if that fails, everything is rolled back), commit, put the files in place.
Whoever is interrupted after the commit leaves a complete store and older files, which the next change or
`todoku apply` renews.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, Engine

from todoku import store
from todoku.directory import addresses, passwords, queries, requests
from todoku.directory.contents import Contents, Mailbox, contents
from todoku.directory.errors import DirectoryError, NoSuchUserError, StillReferencedError
from todoku.directory.export import Exporter, Staged
from todoku.directory.moving import Mistake, Wanted
from todoku.directory.people import Account, Alias, Grant, Held, OsUser, os_user
from todoku.directory.resolution import Resolution
from todoku.settings import Settings


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with an account: `references` were taken out of aliases, `mail` stays on the disk.

    Nobody may send as its addresses any more: `grants` are those of others that ended so.
    """

    account: Account
    references: tuple[Alias, ...]  # the aliases, with only the targets that were removed
    grants: tuple[Grant, ...]
    mail: Path


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file of accounts: with `mistakes`, nothing was made."""

    made: dict[int, Account]  # by line
    present: tuple[str, ...]  # logins that were here before
    mistakes: tuple[Mistake, ...]


class Directory:
    """Who has mail here. All methods raise `DirectoryError` and `store.StoreError`."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        exporter: Exporter,
        *,
        find_user: Callable[[str], OsUser] = os_user,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._exporter = exporter
        self._find_user = find_user

    # Questions

    def people(self) -> Resolution:
        """Everybody, and where mail to each address ends up, at this moment."""
        with store.read(self._engine) as connection:
            return self._people(queries.held(connection))

    def accounts(self) -> tuple[Account, ...]:
        """All accounts, by primary address; also those not in use (`Resolution.problem` says why)."""
        return self.people().held.accounts

    def aliases(self) -> tuple[Alias, ...]:
        """All aliases that were made; postmaster@ and abuse@ exist without."""
        return self.people().held.aliases

    def orphans(self) -> tuple[Account, ...]:
        """The accounts whose domain is no longer in the settings: kept, but not in use."""
        return tuple(account for account in self.accounts() if not self._settings.is_own(account.address))

    def account(self, name: str) -> Account:
        """The account with that login or address."""
        return requests.account(name, self.people())

    def mail_folder(self, account: Account) -> Path:
        """Where the account's mail is."""
        if account.is_system:
            return self._find_user(account.login).home / "Maildir"
        return self._exporter.home(account.address)

    # Accounts

    def planned_account(self, name: str, more: Sequence[str] = (), quota: int | None = None) -> Account:
        """The account that `add_account` would make, checked: to be asked before a password is typed."""
        return requests.new_account(name, more, quota, self.people(), self._find_user)

    def add_account(
        self, name: str, password: str | None, more: Sequence[str] = (), quota: int | None = None
    ) -> Account:
        """A new account. `name`: its primary address; in system mode, the OS user's name will do.

        `password` is None in system mode, where it is the OS user's. `quota` in bytes: 0 for no limit, None
        for what the settings say.
        """
        hashed = requests.new_hash(password, self._settings)
        with self._changing() as connection:
            people = self._people(queries.held(connection))
            account = requests.new_account(name, more, quota, people, self._find_user, hashed)
            queries.add_account(connection, account)
        return self.account(account.login)

    def import_accounts(self, wanted: Sequence[Wanted], *, dry_run: bool = False) -> Imported:
        """Accounts of another system (`moving`), all or none; who has an account here already is left alone."""
        requests.refuse_passwords_of_the_system(self._settings, "NAME")
        # Expensive, so not while others wait for the lock.
        hashes = [
            each.hashed or (passwords.hashed(each.password) if each.password else None) for each in wanted
        ]
        made: dict[int, Account] = {}
        present: list[str] = []
        mistakes: list[Mistake] = []
        with self._changing() as connection:
            held = queries.held(connection)
            for each, hashed in zip(wanted, hashes, strict=True):
                try:
                    address = addresses.own(each.address, self._settings)
                    if address in held.logins:
                        present.append(address)
                        continue
                    people = self._people(held)
                    account = requests.new_account(
                        each.address, each.more, each.quota, people, self._find_user, hashed
                    )
                except DirectoryError as error:
                    mistakes.append(Mistake(each.line, str(error)))
                    continue
                made[each.line] = account
                held = replace(held, accounts=(*held.accounts, account))
            for account in () if dry_run or mistakes else made.values():
                queries.add_account(connection, account)
        return Imported(made, tuple(present), tuple(mistakes))

    def check_password_is_ours(self, name: str) -> None:
        """Raises `WrongModeError` where passwords are the operating system's."""
        requests.refuse_passwords_of_the_system(self._settings, name)

    def set_password(self, name: str, password: str) -> Account:
        """A new password for an account; the old one ends to work within a second."""
        requests.refuse_passwords_of_the_system(self._settings, name)
        hashed = passwords.hashed(password)
        with self._changing() as connection:
            account = requests.account(name, self._people(queries.held(connection)))
            queries.set_password(connection, account.login, hashed)
        return account

    def references(self, name: str) -> tuple[Alias, ...]:
        """The aliases that lead to an account, each with only the targets that are the account's."""
        people = self.people()
        return _references(people.held, requests.account(name, people))

    def remove_account(self, name: str, *, with_references: bool = False) -> Removed:
        """Remove an account; its mail stays on the disk.

        While aliases lead to it, this raises `StillReferencedError`, unless `with_references` takes them
        out too.
        """
        with self._changing() as connection:
            people = self._people(queries.held(connection))
            account = requests.account(name, people)
            references = _references(people.held, account)
            if references and not with_references:
                raise _still_referenced(account.addresses, people.held)
            for alias in references:
                _remove_targets(connection, people.held, alias.address, alias.targets)
            queries.remove_account(connection, account.login)
            queries.remove_grants_of(connection, account.addresses)
            left = queries.held(connection).grants
        ended = tuple(
            grant for grant in people.held.grants if grant not in left and grant.login != account.login
        )
        return Removed(account, references, ended, self._kept_mail(account))

    def add_address(self, name: str, address: str) -> Account:
        """One more address for an account."""
        with self._changing() as connection:
            people = self._people(queries.held(connection))
            account = requests.account(name, people)
            wanted = requests.free_address(address, people)
            queries.add_address(connection, account.login, wanted)
        return self.account(account.login)

    def remove_address(self, name: str, address: str) -> Account:
        """Take an address away from an account; not the primary one."""
        with self._changing() as connection:
            people = self._people(queries.held(connection))
            account = requests.account(name, people)
            surplus = requests.further_address(address, account, people.settings)
            if people.held.leading_to(frozenset((surplus,))):
                raise _still_referenced((surplus,), people.held)
            queries.remove_address(connection, surplus)
            queries.remove_grants_of(connection, [surplus])
        return self.account(account.login)

    # Whom else an account may send as

    def grant(self, name: str, sender: str) -> tuple[Account, bool]:
        """Let an account send as another's address, or as any of "@domain"; whether that is new (not: no error)."""
        with self._changing() as connection:
            people = self._people(queries.held(connection))
            wanted = requests.grant(name, sender, people)
            new = wanted not in people.held.grants
            if new:
                queries.add_grant(connection, wanted)
        return self.account(wanted.login), new

    def revoke(self, name: str, sender: str) -> Account:
        """Take such a grant back."""
        with self._changing() as connection:
            surplus = requests.present_grant(name, sender, self._people(queries.held(connection)))
            queries.remove_grant(connection, surplus)
        return self.account(surplus.login)

    # Aliases

    def add_alias(self, address: str, targets: Sequence[str]) -> tuple[Alias, tuple[str, ...]]:
        """An alias, or more targets for one: as it is then, and which targets are new (none: no error)."""
        with self._changing() as connection:
            people = self._people(queries.held(connection))
            name, wanted = requests.alias(address, targets, people)
            present = people.held.targets.get(name, ())
            new = tuple(target for target in wanted if target not in present)
            if new:
                queries.add_alias(connection, name, new)
        return Alias(name, tuple(sorted((*present, *new)))), new

    def remove_alias(self, address: str, targets: Sequence[str] = ()) -> Alias:
        """Remove these targets of an alias, by default all, and with the last one the alias: what is left."""
        with self._changing() as connection:
            held = queries.held(connection)
            alias, surplus = requests.present_alias(address, targets, self._people(held))
            left = _remove_targets(connection, held, alias, surplus)
            if not left and held.leading_to(frozenset((alias,))):
                raise _still_referenced((alias,), held)
        return Alias(alias, left)

    # The export

    def export(self) -> None:
        """Write the files for Postfix and Dovecot anew from what is stored."""
        with self._changing():
            pass

    def export_differences(self) -> tuple[Contents, dict[str, str]]:
        """What the files should be, and what differs from it (see `Exporter.differences`)."""
        wanted = self._contents(self.people())
        return wanted, self._exporter.differences(wanted)

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """The one way to change anything: see the top of this file for the order of things."""
        staged: Staged | None = None
        with self._exporter.lock():
            try:
                with store.write(self._engine) as connection:
                    yield connection
                    staged = self._exporter.stage(self._contents(self._people(queries.held(connection))))
            except BaseException:
                if staged is not None:
                    staged.discard()
                raise
            staged.put_in_place()

    def _people(self, held: Held) -> Resolution:
        if self._settings.accounts.mode == "virtual":
            return Resolution(self._settings, held)
        logins = (account.login for account in held.accounts if account.is_system)
        return Resolution(
            self._settings, held, frozenset(login for login in logins if not self._has_user(login))
        )

    def _has_user(self, login: str) -> bool:
        try:
            self._find_user(login)
        except NoSuchUserError:
            return False
        return True

    def _contents(self, people: Resolution) -> Contents:
        if people.settings.accounts.mode == "system":
            return contents(people, self._system_mailbox)
        uid, gid = self._exporter.mail_owner()
        return contents(people, lambda account: Mailbox(uid, gid, self._exporter.home(account.address)))

    def _system_mailbox(self, account: Account) -> Mailbox:
        user = self._find_user(account.login)
        return Mailbox(user.uid, user.gid, user.home)

    def _kept_mail(self, account: Account) -> Path:
        if account.is_system and not self._has_user(account.login):
            return Path("~" + account.login)
        return self.mail_folder(account)


def _references(held: Held, account: Account) -> tuple[Alias, ...]:
    gone = set(account.addresses)
    # An alias that is left without targets goes too, and what leads to it in turn.
    while emptied := {alias.address for alias in held.aliases if gone.issuperset(alias.targets)} - gone:
        gone |= emptied
    return tuple(
        Alias(alias.address, tuple(target for target in alias.targets if target in gone))
        for alias in held.leading_to(frozenset(gone))
    )


def _remove_targets(
    connection: Connection, held: Held, address: str, targets: tuple[str, ...]
) -> tuple[str, ...]:
    queries.remove_alias(connection, address, targets)
    left = tuple(target for target in held.targets[address] if target not in targets)
    if not left:
        queries.remove_grants_of(connection, [address])
    return left


def _still_referenced(gone: tuple[str, ...], held: Held) -> StillReferencedError:
    references = held.leading_to(frozenset(gone))
    names = tuple(alias.address for alias in references)
    target = next(target for target in references[0].targets if target in gone)
    return StillReferencedError(
        f"{addresses.shown(gone[0])} was not removed, because mail to "
        f"{', '.join(map(addresses.shown, names))} goes to it: take it out first (`todoku alias remove "
        f"{names[0]} {target}`)",
        names,
    )
