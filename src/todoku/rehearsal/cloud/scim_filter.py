"""SCIM filters (RFC 7644 3.4.2.2), as far as clients of identity domains use them: comparisons of an attribute with
a value, joined by "and" and "or". Attribute names and texts are compared without case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import ApiError

Thing = Mapping[str, Any]
Matches = Callable[[Thing], bool]

_TERM = re.compile(
    r"\s*(?P<path>[A-Za-z][\w.:$-]*)\s+"
    r'(?:(?P<present>pr)(?!\w)|(?P<op>eq|ne|co|sw|ew)\s+(?P<value>"(?:[^"\\]|\\.)*"|true|false|-?[0-9]{1,18}))\s*',
    re.IGNORECASE | re.ASCII,
)
_JOIN = re.compile(r"(and|or)\s", re.IGNORECASE)
_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda there, wanted: there == wanted,
    "ne": lambda there, wanted: there != wanted,
    "co": lambda there, wanted: wanted in there,
    "sw": lambda there, wanted: there.startswith(wanted),
    "ew": lambda there, wanted: there.endswith(wanted),
}


def matcher(text: str) -> Matches:
    """Whether a resource matches `text`. Raises `ApiError` 400 (invalidFilter) and nothing else."""
    alternatives: list[list[Matches]] = [[]]
    at = 0
    while True:
        term = _TERM.match(text, at)
        if term is None:
            raise ApiError(400, "invalidFilter", f"cannot parse the filter {text[:200]!r}")
        alternatives[-1].append(_comparison(term))
        at = term.end()
        if at == len(text):
            break
        join = _JOIN.match(text, at)
        if join is None:
            raise ApiError(400, "invalidFilter", f"cannot parse the filter {text[:200]!r}")
        if join[1].lower() == "or":
            alternatives.append([])
        at = join.end()
    return lambda thing: any(all(each(thing) for each in terms) for terms in alternatives)


def _comparison(term: re.Match[str]) -> Matches:
    path = term["path"]
    if term["present"]:
        return lambda thing: bool(values(thing, path))
    try:
        wanted = _text(json.loads(term["value"] if term["value"][0] == '"' else term["value"].lower()))
    except ValueError:
        raise ApiError(400, "invalidFilter", f"not a value: {term['value'][:100]}") from None
    test = _TESTS[term["op"].lower()]
    return lambda thing: any(test(_text(each), wanted) for each in values(thing, path))


def values(thing: Thing, path: str) -> list[Any]:
    """What is at `path` ("members.value", or an attribute of an extension after its URN)."""
    found: list[Any] = [thing]
    if path.lower().startswith("urn:"):
        schema, _, path = path.rpartition(":")
        found = _children(thing, schema)
    for name in path.split("."):
        found = [child for each in found if isinstance(each, Mapping) for child in _children(each, name)]
    return [each for each in found if each is not None]


def _children(thing: Thing, name: str) -> list[Any]:
    for key, value in thing.items():
        if key.lower() == name.lower():
            return value if isinstance(value, list) else [value]
    return []


def _text(value: Any) -> str:
    return value.casefold() if isinstance(value, str) else json.dumps(value)
