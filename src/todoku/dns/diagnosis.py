"""What is wrong with a name in the DNS, besides that a record is missing: the mistakes that people meet.

A web console that appended the zone once more, a CNAME beside other records, a zone whose DNSSEC signatures do
not hold, a delegation to servers that do not know the zone, servers that say different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from todoku.dns import text
from todoku.dns.lookups import Answer, Lookups, NotFound, Status, Zone

_BESIDE = ("MX", "TXT", "A", "AAAA", "NS")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something wrong, and what to do about it."""

    kind: str  # "doubled", "cname-beside", "dnssec", "lame", "split", "silent"
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """One name and type as the authoritative servers and the resolver show it."""

    zone: Zone | None
    answers: tuple[Answer, ...]  # of the authoritative servers
    resolved: Answer  # what the world sees
    troubles: tuple[Trouble, ...] = ()

    def shows(self, values: Sequence[str]) -> bool:
        """Whether every authoritative server that answers has exactly these values; one has to answer."""
        usable = [answer for answer in self.answers if answer.usable]
        return bool(usable) and all(sorted(answer.values) == sorted(values) for answer in usable)

    def lacking(self, values: Sequence[str]) -> tuple[str, ...]:
        """The servers that answer something else."""
        return tuple(
            answer.server
            for answer in self.answers
            if answer.usable and sorted(answer.values) != sorted(values)
        )


def view(lookups: Lookups, name: str, type_: str, *, zone: Zone | None = None) -> View:
    """Look at a name from both sides, without looking for trouble. Raises NotFound."""
    place = zone or lookups.zone_of(name)
    return View(place, lookups.ask_all(place, name, type_), lookups.resolve(name, type_))


def examine(lookups: Lookups, name: str, type_: str, wanted: Sequence[str]) -> View:
    """Look at a name from both sides, and for the usual mistakes when something is amiss."""
    try:
        seen = view(lookups, name, type_)
    except NotFound as error:
        return View(None, (), lookups.resolve(name, type_), (Trouble("silent", str(error)),))
    assert seen.zone is not None  # noqa: S101
    troubles = [
        *_delegation(seen.zone, seen.answers),
        *_split(name, type_, seen.answers),
        *dnssec(lookups, name, type_, seen.resolved),
    ]
    if not seen.shows(wanted):
        troubles += _doubled(lookups, seen.zone, name, type_)
        troubles += _doubled_target(seen.zone, seen.answers, type_, wanted)
    troubles += _cname_beside(lookups, seen, name)
    return View(seen.zone, seen.answers, seen.resolved, tuple(troubles))


def _delegation(zone: Zone, answers: Sequence[Answer]) -> list[Trouble]:
    troubles = []
    for answer in answers:
        if answer.status in (Status.LAME, Status.REFUSED, Status.BROKEN):
            troubles.append(
                Trouble(
                    "lame",
                    f"{answer.server} is named as a server of {zone.name} but does not serve it "
                    f"({answer.status.value}): correct the name servers at the registrar, or the server",
                )
            )
        elif answer.status is Status.SILENT:
            troubles.append(
                Trouble(
                    "silent",
                    f"{answer.server}, a server of {zone.name}, does not answer: some of the world waits for it",
                )
            )
    return troubles


def _split(name: str, type_: str, answers: Sequence[Answer]) -> list[Trouble]:
    said = {tuple(sorted(answer.values)): answer.server for answer in answers if answer.usable}
    if len(said) < 2:
        return []
    listed = "; ".join(f"{server}: {text.listed(values) or 'nothing'}" for values, server in said.items())
    return [
        Trouble(
            "split",
            f"the servers of the zone do not agree about {name} {type_} ({listed}). Wait for the change to reach "
            "them all; if it stays so, their zone transfers are broken",
        )
    ]


def dnssec(lookups: Lookups, name: str, type_: str, resolved: Answer) -> list[Trouble]:
    """Whether the resolver's answer fails only because it checks signatures."""
    if resolved.status is not Status.BROKEN or not lookups.resolve(name, type_, unchecked=True).usable:
        return []
    return [
        Trouble(
            "dnssec",
            f"resolvers that check DNSSEC refuse {name}: its signatures do not hold. Until the zone is signed anew, "
            "or its DS record is removed at the registrar, mail to and from it fails for much of the world",
        )
    ]


def _doubled(lookups: Lookups, zone: Zone, name: str, type_: str) -> list[Trouble]:
    wrong = f"{name}.{zone.name}"
    if not any(answer.values for answer in _first_usable(lookups, zone, wrong, type_)):
        return []
    return [
        Trouble(
            "doubled",
            f"there is a {type_} record at {wrong}: the web console appended the zone to a full name. Enter the "
            f"name without .{zone.name}, or with a dot at the end, and remove the wrong one",
        )
    ]


def _doubled_target(
    zone: Zone, answers: Sequence[Answer], type_: str, wanted: Sequence[str]
) -> list[Trouble]:
    """The same with what the record leads to: the console took a full name for one below the zone."""
    if type_ not in ("CNAME", "MX"):
        return []
    targets = {f"{value.split()[-1]}.{zone.name}": value.split()[-1] for value in wanted}
    seen = [value.split()[-1] for answer in answers if answer.usable for value in answer.values]
    return [
        Trouble(
            "doubled",
            f"the {type_} record leads to {wrong}: the web console appended the zone to a full name. Enter its value "
            f"with a dot at the end, {targets[wrong]}.",
        )
        for wrong in dict.fromkeys(seen)
        if wrong in targets
    ]


def _cname_beside(lookups: Lookups, seen: View, name: str) -> list[Trouble]:
    """RFC 1034 3.6.2: where there is a CNAME, there can be nothing else."""
    assert seen.zone is not None  # noqa: S101
    alias = [answer for answer in _first_usable(lookups, seen.zone, name, "CNAME") if answer.values]
    if not alias:
        return []
    beside = [
        type_
        for type_ in _BESIDE
        if any(a.values and a.cname is None for a in _first_usable(lookups, seen.zone, name, type_))
    ]
    if not beside and seen.answers and not any(answer.cname for answer in seen.answers):
        return []
    if not beside:
        return [
            Trouble(
                "cname-beside",
                f"{name} is a CNAME to {alias[0].values[0]}, beside which nothing else can exist: remove the CNAME, "
                "or the name cannot have records of its own",
            )
        ]
    return [
        Trouble(
            "cname-beside",
            f"{name} has a CNAME and {', '.join(beside)} records: that is not allowed, and what is seen depends on "
            "who asks. Remove one of them",
        )
    ]


def _first_usable(lookups: Lookups, zone: Zone, name: str, type_: str) -> list[Answer]:
    for server in zone.servers:
        answer = lookups.ask(server, name, type_)
        if answer.usable:
            return [answer]
    return []
