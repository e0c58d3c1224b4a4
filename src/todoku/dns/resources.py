"""A record set as a resource of the plan.

It looks at what the publisher has, merges, publishes, and is content only when the zone's authoritative
servers show it. What somebody else decided (an MX that points elsewhere) is a conflict: it is told and left
alone, unless forced. Whatever Todoku did not make is never removed.
"""

from __future__ import annotations

import time
from collections.abc import Set
from dataclasses import dataclass, replace

from todoku.dns import diagnosis, lookups, silent_names, spf, spf_cost
from todoku.dns.client import Names
from todoku.dns.merging import Merge, conflict, settle
from todoku.dns.problems import RecordProblem
from todoku.dns.publisher import Found, Published, PublisherFailed, Replacement
from todoku.dns.records import RecordSet
from todoku.dns.text import fits, listed, plain, presentation
from todoku.plan.outputs import Reference
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, NeedsPerson, NotYet, Resource

_PAUSE = 1.0  # seconds between two looks at the authoritative servers


@dataclass(frozen=True, slots=True)
class Seen:
    """What is published where the record set belongs, and what it has to become."""

    zone: str
    name: str
    there: tuple[Published, ...]
    wanted: tuple[str, ...]
    by_hand: bool = False  # a person publishes
    left_alone: str = ""  # why nothing is published there, although it would be wanted

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(record.value for record in self.there)


@dataclass(frozen=True, slots=True)
class Unknown:
    """The record set depends on something that is not known yet."""

    references: tuple[str, ...]


@dataclass(frozen=True)
class RecordSetResource(Resource[Names, Seen | Unknown]):
    """One name and type in the DNS."""

    record: RecordSet
    force: bool = False
    after: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def why(self) -> str:
        return self.record.why

    @property
    def needs(self) -> Set[str]:
        return self.after | self.record.references

    @property
    def reads(self) -> Set[str]:
        return self.record.references

    def look(self, client: Names) -> Seen | Unknown:
        """What is published. Raises NotYet for a conflict, and while the servers do not show what is published."""
        seen = self.compare(client)
        if isinstance(seen, Unknown) or seen.left_alone:
            return seen
        if sorted(seen.values) == sorted(seen.wanted):
            self._require_visible(seen, client)
        elif self.record.merge is Merge.SPF:
            self.require_affordable(seen, client)
        return seen

    def compare(self, client: Names) -> Seen | Unknown:
        """What the publisher has, without asking what the world sees of it. Raises NotYet for a conflict."""
        known = known_values(self.record, client)
        if isinstance(known, Unknown):
            return known
        name, values = known
        if not fits(name):
            raise LookFailed(f"the name {name} is longer than the 253 characters that a name can have")
        try:
            zone = client.zone(name)
            look = silent_names.unless_left_alone if self.record.harmless else _look
            found = look(client, zone, name, self.record.type)
        except PublisherFailed as error:
            raise LookFailed(str(error)) from error
        if isinstance(found, str):
            return Seen(zone, name, (), (), left_alone=found)
        return replace(self._seen(zone, name, values, found), by_hand=client.publisher.by_hand)

    def differ(self, seen: Seen | Unknown) -> Change | None:
        if isinstance(seen, Unknown) and self.record.optional:
            return None
        if isinstance(seen, Unknown):
            waits = ", ".join(seen.references)
            return Change(Action.CREATE, f"{self._shown}: known after apply", f"follows from {waits}")
        if sorted(seen.values) == sorted(seen.wanted):
            return None
        replacement = self._replacement(seen)
        action = Action.UPDATE if replacement.remove else Action.CREATE
        verb = "change" if replacement.remove else "publish"
        summary = f"{verb} {seen.name} {self.record.type}" + (", by hand" if seen.by_hand else "")
        if conflict(self.record.merge, seen.wanted, seen.values):
            summary += " (forced: somebody else's decision is replaced)"
        return Change(action, summary, replacement.describe())

    def change(self, change: Change, client: Names) -> None:  # noqa: ARG002 - what is there now decides
        """Publish, then wait a moment until the authoritative servers show it."""
        seen = self.look(client)
        if isinstance(seen, Unknown):
            raise NotYet(f"{self._shown} waits: {', '.join(seen.references)} is not known yet")
        replacement = self._replacement(seen)
        if not replacement.add and not replacement.remove:
            return
        try:
            client.publisher.apply(seen.zone, replacement)
        except PublisherFailed as error:
            raise ChangeFailed(str(error)) from error
        self._wait_until_visible(seen, client)

    @property
    def _shown(self) -> str:
        return self.record.id.removeprefix("dns:")

    def _seen(self, zone: str, name: str, values: tuple[str, ...], found: Found) -> Seen:
        type_ = self.record.type
        if "CNAME" in found.others:
            raise LookFailed(
                f"{name} is a CNAME, beside which no {type_} record can exist (RFC 1034 3.6.2): remove the CNAME "
                "where the zone is edited, or choose another name"
            )
        if type_ == "CNAME" and found.others:
            raise LookFailed(
                f"{name} has {', '.join(sorted(found.others))} records, beside which no CNAME can exist (RFC 1034 "
                "3.6.2): remove them where the zone is edited"
            )
        try:
            wanted = settle(self.record.merge, type_, values, found.values)
        except RecordProblem as error:
            raise LookFailed(f"{name}: {error}") from error
        if conflict(self.record.merge, wanted, found.values) and not self.force:
            there = listed([presentation(type_, value) for value in found.values])
            raise NeedsPerson(
                f"conflict: {name} {type_} is {there}, which somebody decided before Todoku came. Wanted is "
                f"{', '.join(presentation(type_, value) for value in wanted)} ({self.why}). Change it yourself, or "
                "let it be replaced: `todoku apply --force`"
            )
        return Seen(zone, name, found.records, wanted)

    def _replacement(self, seen: Seen) -> Replacement:
        return Replacement(seen.name, self.record.type, seen.there, seen.wanted, self.record.ttl)

    def require_affordable(self, seen: Seen, client: Names) -> None:
        """Raises LookFailed when the SPF record that is wanted needs more look-ups than receivers make."""
        record = next(value for value in seen.wanted if spf.is_spf(value))
        try:
            spf_cost.require_affordable(record, seen.name, lookups.spf_resolve(client.lookups))
        except RecordProblem as error:
            raise LookFailed(str(error)) from error
        except LookupError as error:
            raise LookFailed(
                f"the look-ups that the SPF record of {seen.name} needs could not be counted, the resolver failed at "
                f"{error}: try again"
            ) from error

    def _require_visible(self, seen: Seen, client: Names) -> None:
        """Raises NotYet unless the authoritative servers show what is published."""
        zone = client.delegated(seen.name)
        if zone is None:
            raise NotYet(
                f"{seen.name} {self.record.type} is published, but the world does not find the zone {seen.zone}: have "
                "the domain delegated to its name servers at the registrar"
            )
        answers = diagnosis.View(
            zone,
            client.lookups.ask_all(zone, seen.name, self.record.type),
            lookups.Answer("", lookups.Status.SILENT),
        )
        if answers.shows(seen.wanted):
            return
        silent = not any(answer.usable for answer in answers.answers)
        who = ", ".join(answers.lacking(seen.wanted) or (answer.server for answer in answers.answers))
        raise NotYet(
            f"{seen.name} {self.record.type} is published, and {who} "
            + ("cannot be asked whether it shows it" if silent else "does not show it yet")
            + ": run `todoku dns check` to see why if it stays so"
        )

    def _wait_until_visible(self, seen: Seen, client: Names) -> None:
        deadline = time.monotonic() + client.patience
        client.lookups.forget()
        while True:
            try:
                self._require_visible(seen, client)
            except NotYet:
                if time.monotonic() >= deadline:
                    raise
                client.sleep(_PAUSE if deadline - time.monotonic() < client.patience - 1 else 0.1)
            else:
                return


def _look(client: Names, zone: str, name: str, type_: str) -> Found | str:
    return client.publisher.look(zone, name, type_)


def known_values(record: RecordSet, client: Names) -> tuple[str, tuple[str, ...]] | Unknown:
    """The name and values with everything that others have told, or what is lacking."""
    parts = [client.outputs.resolve(part) for part in (record.name, *record.values)]
    if not all(parts):
        return Unknown(tuple(sorted(record.references)))
    name, *values = [part for part in parts if part]
    name = name.rstrip(".").lower()
    return name, tuple(
        plain(record.type, value) if isinstance(original, Reference) else value
        for value, original in zip(values, record.values, strict=True)
    )
