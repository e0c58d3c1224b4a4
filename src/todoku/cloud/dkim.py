"""DKIM keys: that there is one, that it is ACTIVE, and that an old one goes after its day.

Oracle holds the private half and publishes the public one; our DNS only points there. A domain can have two
keys, of which one signs. A key can need an hour to become ACTIVE although its record is right (65 minutes
were seen), so existing and being ACTIVE are two resources: everything else goes on in between.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from todoku.cloud.client import Cloud, newest
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.resource import CloudResource
from todoku.cloud.values import ACTIVE, DELETED, FAILED, INACTIVE, Dkim, EmailDomain
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, NotYet
from todoku.settings.regions import REGIONS, dkim_record_type

# What is under way when a key is retired was signed by it: a message is retried for days at most, nearly all
# of it arrives within one. Oracle keeps a deleted key published for about another day (SDK, delete_dkim).
IN_TRANSIT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a domain: which signs, and the other one, if there are two."""

    current: Dkim | None
    other: Dkim | None = None

    @property
    def pending(self) -> Dkim | None:
        """A newer key that has not taken over yet."""
        both = self.current is not None and self.other is not None
        return self.other if both and not self._is_old(self.other) else None

    @property
    def old(self) -> Dkim | None:
        """A key that another one has replaced."""
        both = self.current is not None and self.other is not None
        return self.other if both and self._is_old(self.other) else None

    def retire_at(self) -> datetime | None:
        """When the old key may go: a day after the current one took over, as far as the cloud tells.

        `time_updated` of both keys changes when one takes over from the other; the later one counts.
        """
        if self.current is None or self.old is None:
            return None
        times = [self.current.updated, self.current.created, self.old.updated]
        known = [time for time in times if time is not None]
        return max(known) + IN_TRANSIT if known else None

    def _is_old(self, key: Dkim | None) -> bool:
        assert key is not None and self.current is not None  # noqa: S101 - checked by the callers
        if self.current.state != ACTIVE:
            return False
        if key.created is None or self.current.created is None:
            return key.state == INACTIVE
        return key.created < self.current.created


def keys_of(domain: EmailDomain, dkims: Collection[Dkim]) -> Keys:
    """Which of the keys (none of them going) signs: the one Oracle names, else the newest ACTIVE one."""
    by_id = {key.id: key for key in dkims if key.state != FAILED}
    active = [key for key in by_id.values() if key.state == ACTIVE]
    current = newest(active, lambda key: key.created)
    if len(active) > 1 and domain.active_dkim_id in by_id and by_id[domain.active_dkim_id] in active:
        current = by_id[domain.active_dkim_id]
    current = current or newest(list(by_id.values()), lambda key: key.created)
    others = [key for key in by_id.values() if key is not current]
    return Keys(current, newest(others, lambda key: key.created))


def selector(region: str, when: datetime, taken: Collection[str]) -> str:
    """A selector: "todoku-nrt1-202611", with "-2" and so on where that is taken.

    Oracle: different regions must use different selectors for the same domain; lower case, digits, dashes.
    """
    known = REGIONS.get(region)
    code = (known.code or known.key) if known else re.sub(r"[^a-z0-9]", "", region.lower())
    base = f"todoku-{code}-{when:%Y%m}"
    names = [base, *(f"{base}-{number}" for number in range(2, 100))]
    used = {name.lower() for name in taken}
    return next(name for name in names if name not in used)


def create_key(domain: EmailDomain, client: Cloud) -> Dkim:
    """A new key for `domain`, made once whatever happens to the connection. Raises ChangeFailed."""
    before = {key.id for key in client.all_dkims(domain)}
    name = selector(client.api.sending_region, client.now(), [k.selector for k in client.all_dkims(domain)])
    token = client.token("dkim", domain.name, name)

    def made_meanwhile() -> Dkim | None:
        return next((k for k in client.dkims(domain) if k.id not in before and k.selector == name), None)

    try:
        return client.create("dkim", lambda: client.api.create_dkim(domain, name, token), made_meanwhile)
    except CloudError as error:
        if error.trouble in (Trouble.CONFLICT, Trouble.LIMIT):
            raise ChangeFailed(
                f"Oracle makes no further DKIM key for {domain.name}: there can be two, and a deleted one counts "
                f"for about a day more. Apply again tomorrow. Oracle said: {error}"
            ) from error
        raise


def delete_key(domain: EmailDomain, key: Dkim, client: Cloud) -> None:
    """Delete a key that Todoku made. Raises ChangeFailed."""
    if not key.ours:
        raise ChangeFailed(f"the DKIM key {key.selector} of {domain.name} was not made by Todoku: it stays")
    client.delete(
        "dkim",
        lambda: client.api.delete_dkim(key),
        lambda: next((each for each in client.dkims(domain) if each.id == key.id), None),
    )


@dataclass(frozen=True, slots=True)
class DkimSeen:
    """The domain, if it exists, and its keys."""

    domain: EmailDomain | None
    keys: Keys
    failed: tuple[Dkim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DkimResource(CloudResource[DkimSeen]):
    """That a key exists and that it is known what to publish for it; it tells that to the DNS."""

    domain: str

    @property
    def id(self) -> str:
        return f"dkim:{self.domain}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"email-domain:{self.domain}"}

    def look(self, client: Cloud) -> DkimSeen:
        seen = look_at(self.domain, client)
        if seen.keys.current is None and any(not key.ours for key in seen.failed):
            raise LookFailed(
                f"a DKIM key of {self.domain} is in the state FAILED, and Todoku did not make it: delete it in "
                "the console, then apply again"
            )
        self._tell(seen.keys, client)
        if seen.domain is not None:
            # A deleted key is listed for about a day more, in which its record has to stay (SDK, delete_dkim).
            there = sorted(key.selector for key in client.all_dkims(seen.domain) if key.state != DELETED)
            client.outputs.tell(self.id, selectors=" ".join(there))
        return seen

    def differ(self, seen: DkimSeen) -> Change | None:
        if seen.keys.current is not None:
            return None
        detail = f"instead of {', '.join(key.selector for key in seen.failed)}, which failed"
        return Change(Action.CREATE, f"create a DKIM key for {self.domain}", detail if seen.failed else "")

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        seen = self.look(client)
        if seen.domain is None:
            raise ChangeFailed(f"there is no email domain {self.domain}")
        for key in seen.failed:
            delete_key(seen.domain, key, client)
        if seen.keys.current is None:
            create_key(seen.domain, client)
        if not client.wait("dkim", lambda: self._told(client), self.soon):
            raise NotYet(f"Oracle has not said yet what to publish for the DKIM key of {self.domain}")

    def _told(self, client: Cloud) -> bool:
        current = self.look(client).keys.current
        return current is not None and bool(current.record_name and (current.cname or current.txt))

    def _tell(self, keys: Keys, client: Cloud) -> None:
        """For the DNS: the current key under the plain names, a pending or old one under "other_..."."""
        for prefix, key in (("", keys.current), ("other_", keys.other)):
            if key is not None and key.record_name:
                values = {"selector": key.selector, "name": key.record_name, "state": key.state}
                values |= {"cname": key.cname} if key.cname else {}
                values |= {"txt": key.txt} if key.txt else {}
                client.outputs.tell(self.id, **{prefix + name: value for name, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class DkimActive(CloudResource[Dkim | None]):
    """That the key signs. Nothing can be done for it here: Oracle looks at the DNS in its own time."""

    domain: str

    @property
    def id(self) -> str:
        return f"dkim-active:{self.domain}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"dkim:{self.domain}"}

    def look(self, client: Cloud) -> Dkim | None:
        return look_at(self.domain, client).keys.current

    def differ(self, seen: Dkim | None) -> Change | None:
        if seen is not None and seen.state == ACTIVE:
            return None
        return Change(Action.RUN, f"wait until Oracle finds the DKIM record of {self.domain} and signs")

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        def active() -> bool:
            key = self.look(client)
            return key is not None and key.state == ACTIVE

        if not client.wait("dkim", active, self.soon, pause=2.0):
            raise NotYet(waiting_for(self.domain, self.look(client)))


@dataclass(frozen=True, kw_only=True)
class DkimRetired(CloudResource[DkimSeen]):
    """That a replaced key goes when its day is over. Before that, nothing differs."""

    domain: str

    @property
    def id(self) -> str:
        return f"dkim-retired:{self.domain}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"dkim:{self.domain}"}

    def look(self, client: Cloud) -> DkimSeen:
        seen = look_at(self.domain, client)
        due = seen.keys.retire_at()
        is_due = due is not None and client.now() >= due
        ours = seen.keys.old is not None and seen.keys.old.ours
        return seen if is_due and ours else DkimSeen(seen.domain, Keys(seen.keys.current))

    def differ(self, seen: DkimSeen) -> Change | None:
        if seen.keys.old is None:
            return None
        return Change(
            Action.DELETE,
            f"delete the old DKIM key {seen.keys.old.selector} of {self.domain}, replaced long ago",
        )

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        seen = self.look(client)
        if seen.domain is not None and seen.keys.old is not None:
            delete_key(seen.domain, seen.keys.old, client)


def look_at(name: str, client: Cloud) -> DkimSeen:
    """The keys of the domain of that name, with what has to be published for them. Raises CloudError."""
    domain = client.email_domain(name)
    if domain is None:
        return DkimSeen(None, Keys(None))
    dkims: Sequence[Dkim] = client.dkims(domain)
    if dkim_record_type(client.api.sending_region, name) == "TXT":
        dkims = [replace(key, cname="") for key in dkims]  # Oracle tells one all the same
    return DkimSeen(domain, keys_of(domain, dkims), tuple(key for key in dkims if key.state == FAILED))


def waiting_for(domain: str, key: Dkim | None) -> str:
    """Why a key is not ACTIVE, in words."""
    if key is None:
        return f"there is no DKIM key for {domain} yet"
    target = f"CNAME {key.cname}" if key.cname else "a TXT record"
    said = f" ({key.state}{f': {key.details}' if key.details else ''})"
    return (
        f"Oracle has not found the DKIM record {key.record_name} ({target}) yet{said}. Once it is published, this "
        "can take an hour or more; until then the addresses that are approved one by one carry the mail, without a "
        "signature of the domain: it may fail DMARC"
    )
