"""The DNS records of DKIM keys that are no more.

Each rotation leaves a record behind. There is no list of what Todoku once published, so what may go follows from
what can be seen, and everything in doubt stays:

- its selector is one that Todoku gives in this region, from before that of the key that signs now;
- the cloud has no key of that selector. A deleted one is listed for about a day more, so that mail on its way
  still verifies (SDK, delete_dkim): this is the second day after the rotation at the earliest;
- the record is nothing but the pointer to where Oracle published that key of that domain (or, outside the
  commercial realm, the key itself), and nothing else has the name;
- selectors are named after the month, and a name can be used again within the month. So long as that is
  possible, the record goes only when what it points to is gone from the DNS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import groupby

from todoku.dns.client import Names
from todoku.dns.publisher import Published, PublisherFailed, Replacement
from todoku.plan.outputs import Outputs, Reference
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, Resource
from todoku.settings.regions import REGIONS

_PUBLISHED_BY = ".oracleemaildelivery.com"
_SELECTOR = re.compile(r"todoku-(?P<code>[a-z0-9]+)-(?P<month>[0-9]{6})(?:-(?P<number>[1-9][0-9]?))?")


@dataclass(frozen=True, slots=True)
class Left:
    """What is published at the name of a key that is no more."""

    zone: str
    records: tuple[Published, ...]  # of one name and type

    @property
    def replacement(self) -> Replacement:
        first = self.records[0]
        return Replacement(first.name, first.type, self.records, (), first.ttl)


@dataclass(frozen=True)
class RetiredKeys(Resource[Names, tuple[Left, ...]]):
    """That no record of an old key of `domain` is left, where the publisher can list the zone."""

    domain: str
    region: str
    after: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        return f"dns:retired-dkim:{self.domain}"

    @property
    def why(self) -> str:
        return "records of DKIM keys that are no more are of no use to anybody"

    @property
    def needs(self) -> Set[str]:
        return self.after | self.reads

    @property
    def reads(self) -> Set[str]:
        return frozenset({f"dkim:{self.domain}"})

    def look(self, client: Names) -> tuple[Left, ...]:
        """What may go. Raises LookFailed."""
        keys = _Keys.told(self.domain, client.outputs)
        if keys is None:
            return ()
        try:
            zone = client.zone(f"_domainkey.{self.domain}")
            content = client.publisher.content(zone)
        except PublisherFailed as error:
            raise LookFailed(str(error)) from error
        return tuple(
            Left(zone, records)
            for selector, records in _by_selector(content or (), self.domain)
            if self._may_go(selector, records, keys, client)
        )

    def differ(self, seen: tuple[Left, ...]) -> Change | None:
        if not seen:
            return None
        names = ", ".join(left.records[0].name for left in seen)
        detail = "\n".join(left.replacement.describe() for left in seen)
        return Change(Action.DELETE, f"remove {names}, of a key that is no more", detail)

    def change(self, change: Change, client: Names) -> None:  # noqa: ARG002 - what is there now decides
        for left in self.look(client):
            try:
                client.publisher.apply(left.zone, left.replacement)
            except PublisherFailed as error:
                raise ChangeFailed(str(error)) from error

    def _may_go(self, selector: str, records: tuple[Published, ...], keys: _Keys, client: Names) -> bool:
        age, signs = _age(selector, self.region), _age(keys.signs, self.region)
        if age is None or signs is None or age >= signs or selector in keys.known:
            return False
        if len(records) != 1 or not _is_a_key(records[0], selector, self.domain):
            return False
        return age[0] < signs[0] or _leads_nowhere(records[0], client)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The selectors of all keys that the cloud has, and of the one that signs."""

    signs: str
    known: frozenset[str]

    @staticmethod
    def told(domain: str, outputs: Outputs) -> _Keys | None:
        """None as long as it is not known for certain that a key signs, and which others there are."""
        resource = f"dkim:{domain}"
        signs, state, all_ = (
            outputs.known(Reference(resource, name)) for name in ("selector", "state", "selectors")
        )
        known = frozenset((all_ or "").split())
        return _Keys(signs, known) if signs is not None and state == "ACTIVE" and signs in known else None


def _by_selector(content: Iterable[Published], domain: str) -> Iterable[tuple[str, tuple[Published, ...]]]:
    """The records directly below _domainkey, by selector: all types, since nothing else may be there."""
    below = f"._domainkey.{domain}"
    keys = sorted(
        (record for record in content if record.name.endswith(below)), key=lambda r: (r.name, r.type)
    )
    return [(name.removesuffix(below), tuple(group)) for name, group in groupby(keys, lambda r: r.name)]


def _age(selector: str, region: str) -> tuple[str, int] | None:
    """The month of a selector that Todoku gave in `region`, and its number in the month; None for others."""
    found = _SELECTOR.fullmatch(selector)
    known = REGIONS[region]
    if found is None or found["code"] not in (known.code, known.key):
        return None
    return found["month"], int(found["number"] or 1)


def _is_a_key(record: Published, selector: str, domain: str) -> bool:
    if record.type == "CNAME":
        target = record.value.lower()
        return target.startswith(f"{selector}.{domain}.dkim.") and target.endswith(_PUBLISHED_BY)
    return record.type == "TXT" and record.value.startswith("v=DKIM1;")


def _leads_nowhere(record: Published, client: Names) -> bool:
    if record.type != "CNAME":
        return False
    answer = client.lookups.resolve(record.value, "TXT")
    return answer.usable and not answer.values
