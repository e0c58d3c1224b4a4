"""What people ask for, checked against what is: each function returns the request in its final form, or
refuses.

Pure, apart from `find_user`, which asks the operating system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from todoku.directory import addresses, passwords
from todoku.directory.errors import (
    AddressTakenError,
    AliasLoopError,
    DirectoryError,
    NoSuchAccountError,
    NoSuchAliasError,
    NoSuchGrantError,
    NoSuchTargetError,
    WrongModeError,
)
from todoku.directory.people import Account, Grant, OsUser
from todoku.directory.resolution import Resolution
from todoku.settings import Settings


def account(name: str, people: Resolution) -> Account:
    """The account whose login, or one of whose addresses, is `name`. Raises `NoSuchAccountError`."""
    held = people.held
    if found := held.logins.get(name) or held.owners.get(name):
        return found
    # A full address first, then what is the same after normalising; a bare name only when it is one person's.
    if "@" in name:
        address = addresses.anywhere(name, people.settings)
        if found := held.owners.get(address):
            return found
        if address in people.aliases:
            raise NoSuchAccountError(
                f"{addresses.shown(address)} is not an account but an alias for "
                f"{', '.join(people.aliases[address])}: name the account itself"
            )
    else:
        same = [each for each in held.accounts if each.login.partition("@")[0] == name.lower()]
        if len(same) == 1:
            return same[0]
        if same:
            raise NoSuchAccountError(
                f"{name} may be {' or '.join(each.login for each in same)}: write the whole address"
            )
    raise NoSuchAccountError(f"there is no account {name}: `todoku account list` shows those that are")


def new_account(
    name: str,
    more: Sequence[str],
    quota: int | None,
    people: Resolution,
    find_user: Callable[[str], OsUser],
    hashed: str | None = None,
) -> Account:
    """The account to be made. Raises `DirectoryError`."""
    settings = people.settings
    system = settings.accounts.mode == "system"
    whole = f"{name}@{settings.domains[0].name}" if system and "@" not in name else name
    address = free_address(whole, people)
    login = find_user(address.partition("@")[0]).name if system else address
    if taken := people.held.logins.get(login):
        raise AddressTakenError(
            f"the user {login} has an account already, {addresses.shown(taken.address)}: give it the "
            f"address with `todoku account address add {login} {address}`"
        )
    further = sorted({free_address(each, people) for each in more} - {address})
    return Account(login, address, tuple(further), quota, hashed)


def new_hash(password: str | None, settings: Settings) -> str | None:
    """The hash to store for a new account. Raises `DirectoryError`."""
    if settings.accounts.mode == "system":
        if password is not None:
            refuse_passwords_of_the_system(settings, "NAME")
        return None
    if password is None:
        raise WrongModeError("an account needs a password: type one, or use --generate or --password-stdin")
    return passwords.hashed(password)


def refuse_passwords_of_the_system(settings: Settings, name: str) -> None:
    """Raises `WrongModeError` where passwords are the operating system's."""
    if settings.accounts.mode == "system":
        login = name.partition("@")[0]
        raise WrongModeError(
            "accounts.mode is system, so passwords are those of the machine's users and are not kept here: "
            f"set it with `passwd {login}`, and leave the password options out"
        )


def free_address(text: str, people: Resolution) -> str:
    """One of our addresses that nobody has yet. Raises `DirectoryError`."""
    address = addresses.own(text, people.settings)
    if owner := people.held.owners.get(address):
        role = "is an account already" if owner.address == address else f"belongs to {owner.login} already"
        raise AddressTakenError(f"{addresses.shown(address)} {role}: `todoku account list` shows it")
    if targets := people.held.targets.get(address):
        raise AddressTakenError(
            f"{addresses.shown(address)} is an alias already, for {', '.join(targets)}: remove that first "
            f"(`todoku alias remove {address}`)"
        )
    return address


def further_address(text: str, account: Account, settings: Settings) -> str:
    """One of the account's addresses that can be taken away. Raises `DirectoryError`."""
    address = addresses.anywhere(text, settings)
    if address == account.address:
        raise DirectoryError(
            f"{addresses.shown(address)} is the primary address of {account.login}, under which its mail is "
            "kept: remove the account instead (`todoku account remove`)"
        )
    if address not in account.more:
        has = ", ".join(account.more) or "no further ones"
        raise NoSuchAccountError(
            f"{addresses.shown(address)} is not an address of {account.login}, which has {has}"
        )
    return address


def alias(text: str, targets: Sequence[str], people: Resolution) -> tuple[str, tuple[str, ...]]:
    """The alias to be made or widened, and its targets in their final form. Raises `DirectoryError`."""
    address = addresses.own(text, people.settings)
    if owner := people.held.owners.get(address):
        raise AddressTakenError(
            f"{addresses.shown(address)} is an address of {owner.login}, so it cannot be an alias as well: "
            "choose another, or remove it there"
        )
    wanted = tuple(dict.fromkeys(addresses.anywhere(target, people.settings) for target in targets))
    if not wanted:
        raise NoSuchTargetError(f"{address}: name at least one address that its mail shall go to")
    if way := people.loop(address, wanted):
        raise AliasLoopError(f"mail would run in a circle ({' -> '.join(way)}): leave out {way[1]}")
    if missing := people.dead_ends(wanted):
        listed = ", ".join(addresses.shown(each) for each in missing)
        raise NoSuchTargetError(
            f"nobody gets mail at {listed}, so the alias {addresses.shown(address)} would lose it: make the "
            f"account first (`todoku account add {missing[0]}`), or correct the address"
        )
    return address, wanted


def present_alias(text: str, targets: Sequence[str], people: Resolution) -> tuple[str, tuple[str, ...]]:
    """An alias that is there, and those of its targets that are to go (all when none are named)."""
    address = addresses.anywhere(text, people.settings)
    present = people.held.targets.get(address)
    if present is None:
        if address in people.implicit:
            raise NoSuchAliasError(
                f"{address} leads to the postmaster of the settings without having been made, as every "
                "domain must have it: change `postmaster` in the settings, or make an alias of that name"
            )
        raise NoSuchAliasError(
            f"there is no alias {addresses.shown(address)}: `todoku alias list` shows those that are"
        )
    wanted = tuple(dict.fromkeys(addresses.anywhere(target, people.settings) for target in targets))
    if unknown := [target for target in wanted if target not in present]:
        raise NoSuchAliasError(
            f"mail to {addresses.shown(address)} does not go to {', '.join(unknown)}, but to "
            f"{', '.join(present)}"
        )
    return address, wanted or present


def grant(name: str, sender: str, people: Resolution) -> Grant:
    """What `name` is to be allowed: to send as another's address, or as any of "@domain". Raises `DirectoryError`."""
    known = account(name, people)
    wanted = addresses.own_sender(sender, people.settings)
    if wanted in known.addresses:
        raise DirectoryError(
            f"{addresses.shown(wanted)} is an address of {known.login}, which may send as it without a grant"
        )
    if not wanted.startswith("@") and not people.recipients(wanted):
        raise NoSuchTargetError(
            f"nobody gets mail at {addresses.shown(wanted)}, so answers to what {known.login} sends as it would be "
            f"lost: make the address first (`todoku account address add` or `todoku alias add`), or correct it"
        )
    return Grant(known.login, wanted)


def present_grant(name: str, sender: str, people: Resolution) -> Grant:
    """A grant that is there. Raises `DirectoryError`."""
    known = account(name, people)
    wanted = addresses.sender_anywhere(sender, people.settings)
    granted = people.held.granted(known.login)
    if wanted not in granted:
        has = ", ".join(map(addresses.shown_sender, granted)) or "nothing"
        raise NoSuchGrantError(
            f"to send as {addresses.shown_sender(wanted)} was not granted to {known.login}, but {has}"
        )
    return Grant(known.login, wanted)
