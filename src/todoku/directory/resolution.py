"""Where mail to an address ends up: through aliases of aliases to mailboxes here and addresses elsewhere.

Pure. Whatever the store and the settings hold (a domain that was removed, a loop that a change of
postmaster made), the answer is finite and names only what can be delivered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from todoku.directory.people import Account, Held
from todoku.settings import Settings

# Every domain has to have the first two (RFC 5321 4.5.1, RFC 2142). The gate gives out return addresses below the
# third (bounces+...@) and maps them back itself; what comes to it all the same is for the postmaster.
ROLES = ("postmaster", "abuse", "bounces")


@dataclass(frozen=True)
class Resolution:
    """What `held` means under `settings`. `missing_users`: logins whose OS user is gone (system mode)."""

    settings: Settings
    held: Held
    missing_users: frozenset[str] = frozenset()

    def problem(self, account: Account) -> str:
        """Why `account` gets no mail, in words; empty when it does."""
        mode = self.settings.accounts.mode
        if not self.settings.is_own(account.address):
            domain = account.address.rpartition("@")[2]
            return f"not in use: the domain {domain} is no longer in the settings"
        if account.is_system != (mode == "system"):
            made = "system" if account.is_system else "virtual"
            return f"not in use: made while accounts.mode was {made}, which now is {mode}"
        if account.login in self.missing_users:
            return f"not in use: this machine has no such user {account.login} for people's mail"
        return ""

    @cached_property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that are in use."""
        return tuple(account for account in self.held.accounts if not self.problem(account))

    @cached_property
    def owners(self) -> dict[str, Account]:
        """The account in use that each address in one of our domains belongs to."""
        return {
            address: account
            for account in self.accounts
            for address in account.addresses
            if self.settings.is_own(address)
        }

    @cached_property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """The targets of each alias in one of our domains, with those that exist without being asked for."""
        return self.implicit | {
            address: targets
            for address, targets in self.held.targets.items()
            if self.settings.is_own(address)
        }

    @cached_property
    def implicit(self) -> dict[str, tuple[str, ...]]:
        """postmaster@, abuse@ and bounces@ of every domain, unless somebody has that address."""
        postmaster = self.settings.postmaster
        wanted = (f"{role}@{domain.name}" for domain in self.settings.domains for role in ROLES)
        return {
            address: (postmaster,)
            for address in wanted
            if address not in self.held.owners and address not in self.held.targets and address != postmaster
        }

    @cached_property
    def granted(self) -> dict[str, tuple[Account, ...]]:
        """Who may send as an address of ours that is not theirs, or as any of "@domain"."""
        in_use = {account.login: account for account in self.accounts}
        found: dict[str, tuple[Account, ...]] = {}
        for grant in self.held.grants:
            if grant.login in in_use and self.settings.is_own(grant.sender):
                found[grant.sender] = (*found.get(grant.sender, ()), in_use[grant.login])
        return found

    def recipients(self, address: str) -> tuple[str, ...]:
        """Where mail to `address` ends up: primary addresses here and addresses elsewhere, each once."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        waiting = [address]
        while waiting:
            current = waiting.pop()
            if current in seen:
                continue
            seen.add(current)
            if current in self.owners:
                found[self.owners[current].address] = None
            elif current in self.aliases:
                waiting += reversed(self.aliases[current])
            elif current not in self.held.owners and not self._is_own(current):
                found[current] = None
        return tuple(found)

    def members(self, address: str) -> tuple[Account, ...]:
        """The accounts here that get the mail to `address`."""
        return tuple(self.owners[each] for each in self.recipients(address) if each in self.owners)

    def dead_ends(self, targets: Iterable[str]) -> tuple[str, ...]:
        """Those of `targets` that lead nowhere."""
        return tuple(target for target in targets if not self.recipients(target))

    def remarks(self) -> tuple[str, ...]:
        """What somebody should do something about, in words."""
        postmaster = self.settings.postmaster
        if self.recipients(postmaster):
            return ()
        return (
            f"nobody gets mail at {postmaster}, the postmaster of the settings, so mail to postmaster@ and "
            f"abuse@ is refused: `todoku account add {postmaster}` makes the account",
        )

    def loop(self, address: str, targets: Iterable[str]) -> tuple[str, ...]:
        """The way from `address` by `targets` back to itself, as [address, ..., address]; empty when none."""
        came_from: dict[str, str] = {}
        waiting = [(target, address) for target in targets]
        while waiting:
            current, previous = waiting.pop(0)
            if current in came_from:
                continue
            came_from[current] = previous
            if current == address:
                return self._way(address, came_from)
            waiting += [(target, current) for target in self.aliases.get(current, ())]
        return ()

    def _way(self, address: str, came_from: dict[str, str]) -> tuple[str, ...]:
        way = [address]
        current = came_from[address]
        while current != address:
            way.append(current)
            current = came_from[current]
        return (address, *reversed(way))

    def _is_own(self, address: str) -> bool:
        return self.settings.is_own(address)
