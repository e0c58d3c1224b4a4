"""Records for people to enter: as a zone file, and one by one in the two forms that web consoles want.

Consoles differ in two ways that go wrong every day: some append the zone to the name that is entered, so that
a full name ends up as "name.zone.zone"; some put quotes around TXT values themselves, others want them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from todoku.dns.publisher import Replacement
from todoku.dns.text import presentation, relative, short
from todoku.plan.resource import Entry


@dataclass(frozen=True, slots=True)
class Paste:
    """One record in both forms."""

    type: str
    ttl: int
    relative: str  # the name below the zone, "@" for the zone itself
    absolute: str  # with the final dot
    values: tuple[str, ...]  # the forms of the value: plain, and as a zone file has it

    def lines(self) -> list[str]:
        """As a person reads it."""
        plain, exact = self.values
        shown = [
            f"type   {self.type}   (TTL {self.ttl})",
            f"name   {self.relative}",
            f"       or, where the console wants the whole name: {self.absolute}",
            f"value  {plain}",
        ]
        if exact != plain:
            why = (
                "with quotes, in parts of at most 255 characters, where it wants that"
                if self.type == "TXT"
                else "with the final dot, where it would append the zone"
            )
            shown.append(f"       or, {why}: {exact}")
        return shown


def paste(zone: str, name: str, type_: str, value: str, ttl: int) -> Paste:
    """The record in the forms in which consoles take it."""
    return Paste(type_, ttl, relative(name, zone), f"{name}.", (value, presentation(type_, value)))


def render(zone: str, records: Iterable[tuple[str, str, str, int, str]]) -> str:
    """A zone file's lines for (name, type, value, TTL, why), with the reasons as comments."""
    lines = [f"$ORIGIN {zone}."]
    last = ""
    for name, type_, value, ttl, why in records:
        if why != last:
            lines.append(f"; {why}")
            last = why
        lines.append(_line(name, type_, value, ttl))
    return "\n".join(lines) + "\n"


def instructions(zone: str, replacement: Replacement) -> str:
    """What to do by hand so that `replacement` is carried out."""
    what = f"the {replacement.type} record of {replacement.name}"
    lines = [f"{what} has to be entered by hand, in the zone {zone}:"]
    for record in replacement.remove:
        lines.append(
            f"  replace or remove: {replacement.type} {relative(replacement.name, zone)}  {short(record.value)}"
        )
    for value in replacement.add:
        form = paste(zone, replacement.name, replacement.type, value, replacement.common_ttl)
        lines += [f"  {line}" for line in form.lines()]
    return "\n".join(lines)


def entry(zone: str, replacement: Replacement) -> Entry:
    """The same as lines of the zone's file; what has to go is a comment."""
    name, type_ = replacement.name, replacement.type
    old = [
        f"; instead of: {name}. IN {type_} {presentation(type_, record.value)}"
        for record in replacement.remove
    ]
    new = [_line(name, type_, value, replacement.common_ttl) for value in replacement.add]
    return Entry(zone, (*old, *new))


def _line(name: str, type_: str, value: str, ttl: int) -> str:
    return f"{name}. {ttl} IN {type_} {presentation(type_, value)}"
