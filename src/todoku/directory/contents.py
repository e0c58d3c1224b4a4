"""What Postfix and Dovecot are told about people: the five exported files, computed from the directory. Pure.

Aliases are written with the addresses where they end, not with the aliases in between, so that Postfix
looks up once and can never run in a circle. Dovecot gets one userdb line per address, because Postfix asks
for the quota of the recipient as the sender wrote it. The quota stands there in the words of Dovecot 2.3
(quota_rule) and of 2.4 (quota_storage_size): each ignores the other's (seen in 2.3.19 and 2.4.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from todoku.directory.people import Account
from todoku.directory.resolution import Resolution

VIRTUAL_MAILBOX = "virtual_mailbox"
VIRTUAL_ALIAS = "virtual_alias"
SENDER_LOGIN = "sender_login"
MAPS = (VIRTUAL_MAILBOX, VIRTUAL_ALIAS, SENDER_LOGIN)
PASSWD = "dovecot.passwd"  # noqa: S105 - a file name
USERDB = "dovecot.userdb"

_HEADER = "# Written by Todoku; edits are overwritten: use `todoku account` and `todoku alias`.\n"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """As whom, and where, Dovecot keeps an account's mail."""

    uid: int
    gid: int
    home: Path


@dataclass(frozen=True, slots=True)
class Contents:
    """The exported files: three maps for Postfix, two passwd-files for Dovecot."""

    maps: Mapping[str, Mapping[str, str]]  # by name; key -> value
    passwd: str
    userdb: str

    def texts(self) -> dict[str, str]:
        """The text of each file, by its name."""
        maps = {
            name: _HEADER + _lines(f"{k}\t{v}" for k, v in sorted(self.maps[name].items())) for name in MAPS
        }
        return {USERDB: self.userdb, PASSWD: self.passwd, **maps}


def contents(people: Resolution, mailbox: Callable[[Account], Mailbox]) -> Contents:
    """The files for `people`; `mailbox` is asked about the accounts in use."""
    system = people.settings.accounts.mode == "system"
    return Contents(
        maps={
            VIRTUAL_MAILBOX: {account.address: account.login for account in people.accounts},
            VIRTUAL_ALIAS: {address: ",".join(ends) for address, ends in _aliases(people).items()},
            SENDER_LOGIN: _sender_logins(people),
        },
        passwd=_HEADER + _lines(_system_logins(people) if system else _virtual_logins(people)),
        userdb=_HEADER + _lines(_userdb(people, mailbox)),
    )


def _aliases(people: Resolution) -> dict[str, tuple[str, ...]]:
    secondary = {
        address: (account.address,)
        for address, account in people.owners.items()
        if address != account.address
    }
    ends = {address: people.recipients(address) for address in people.aliases}
    # An alias that leads nowhere is left out, so that Postfix refuses its mail instead of bouncing it later.
    return secondary | {address: found for address, found in ends.items() if found}


def _sender_logins(people: Resolution) -> dict[str, str]:
    senders: dict[str, tuple[Account, ...]] = (
        dict.fromkeys(people.granted, ())
        | {address: (account,) for address, account in people.owners.items()}
        | {address: members for address in people.aliases if (members := people.members(address))}
    )
    # Postfix asks for the address, and for its @domain only if there is no such line: who may send as any of a domain
    # stands in all of its lines.
    return {
        sender: ",".join(dict.fromkeys(each.login for each in (*accounts, *_granted(sender, people))))
        for sender, accounts in senders.items()
    }


def _granted(sender: str, people: Resolution) -> tuple[Account, ...]:
    whole = "@" + sender.rpartition("@")[2]
    found = people.granted.get(sender, ())
    return found if sender == whole else (*found, *people.granted.get(whole, ()))


def _virtual_logins(people: Resolution) -> Iterable[str]:
    """passdb: the whole address, and the bare user name where only one account has it."""
    names = Counter(_bare(account) for account in people.accounts)
    for account in people.accounts:
        if account.password is None:
            continue
        for name in (account.login, *([_bare(account)] if names[_bare(account)] == 1 else [])):
            # What came from another system has its scheme with it.
            scheme = "" if account.password.startswith("{") else "{ARGON2ID}"
            yield f"{name}:{scheme}{account.password}::::::user={account.login}"


def _system_logins(people: Resolution) -> Iterable[str]:
    """passdb in front of PAM: an address stands for its user, whose password PAM checks (noauthenticate)."""
    for address, account in sorted(people.owners.items()):
        yield f"{address}:::::::user={account.login} noauthenticate"


def _bare(account: Account) -> str:
    return account.login.partition("@")[0]


def _userdb(people: Resolution, mailbox: Callable[[Account], Mailbox]) -> Iterable[str]:
    names: dict[str, Account] = {account.login: account for account in people.accounts} | people.owners
    for address in people.aliases:
        members = people.members(address)
        if len(members) == 1:
            names.setdefault(address, members[0])
    for name, account in sorted(names.items()):
        box = mailbox(account)
        quota = people.settings.accounts.quota if account.quota is None else account.quota
        yield (
            f"{name}::{box.uid}:{box.gid}::{box.home}::userdb_user={account.login} "
            f"userdb_quota_rule=*:bytes={quota} userdb_quota_storage_size={quota}"
        )


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
