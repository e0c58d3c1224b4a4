"""Part of a list, by attributes: `city = Tokyo and plan != free`.

Conditions joined by "and": `NAME = VALUE`, `NAME != VALUE`, `NAME` (has it), `not NAME` (has it not). A value with
spaces in it is fine; one with the word "and" goes between double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func

from todoku.campaign.errors import NotSoError
from todoku.store import campaign_schema as schema

_CONDITION = re.compile(
    r'\s*(?:not\s+(?P<lacks>[a-z]\w{0,63})|(?P<name>[a-z]\w{0,63})(?:\s*(?P<sign>!?=)\s*(?:"(?P<quoted>[^"]*)"'
    r'|(?P<value>[^"=!]*?)))?)\s*(?:\band\b|$)',
    re.ASCII,
)
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Condition:
    """`value` None: whether there is one."""

    name: str
    is_so: bool
    value: str | None

    def sql(self) -> ColumnElement[bool]:
        held = func.coalesce(schema.subscriber.c.attributes[self.name].as_string(), "")
        compared = held != "" if self.value is None else held == self.value
        return compared if self.is_so else ~compared


def parse(text: str) -> tuple[Condition, ...]:
    """Raises NotSoError."""
    found: list[Condition] = []
    at = 0
    if len(text) > _LONGEST:
        raise NotSoError(f"the segment is longer than {_LONGEST} characters")
    while at < len(text) and text.strip():
        match = _CONDITION.match(text, at)
        if match is None or match.end() == at:
            raise NotSoError(
                f'the segment cannot be understood from "{text[at : at + 40]}" on: city = Tokyo and plan != free'
            )
        at = match.end()
        if match["lacks"]:
            found.append(Condition(match["lacks"], False, None))
        elif match["sign"]:
            value = match["quoted"] if match["quoted"] is not None else match["value"].strip()
            found.append(Condition(match["name"], match["sign"] == "=", value))
        else:
            found.append(Condition(match["name"], True, None))
    if text.rstrip().endswith(" and"):
        raise NotSoError('the segment ends with "and"')
    return tuple(found)


def condition(text: str) -> ColumnElement[bool]:
    """For a query over subscribers. Raises NotSoError."""
    return and_(True, *(each.sql() for each in parse(text)))
