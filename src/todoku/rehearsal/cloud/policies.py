"""IAM policy statements, read and evaluated (Oracle's "How policies work" and Email Delivery's policy page).

Allow group ['Domain'/]'NAME' | id OCID | any-user | dynamic-group NAME
    to inspect|read|use|manage TYPE in tenancy | compartment NAME | compartment id OCID [where CONDITION]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

VERBS = ("inspect", "read", "use", "manage")
_EMAIL = (
    "approved-senders",
    "email-domains",
    "email-work-requests",
    "suppressions",
    "email-return-paths",
    "email-configuration",
)
_DNS = ("dns-zones", "dns-records", "dns-steering-policies", "dns-resolvers", "dns-views", "dns-tsig-keys")
_IAM = (
    "users",
    "groups",
    "policies",
    "credentials",
    "compartments",
    "tenancies",
    "dynamic-groups",
    "domains",
)
# Core Services' page: who may read an instance may also read how it is attached to the network.
_INSTANCES = ("instances", "vnic-attachments", "vnics")
_NETWORK = ("vcns", "subnets", "vnics", "vnic-attachments", "security-lists", "network-security-groups")
_LOGGING = ("log-groups", "log-content")
# The policy page lists what is in email-family, and DKIM is not among it: it has to be granted by itself.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "email-family": _EMAIL,
    "dns": _DNS,
    "logging-family": _LOGGING,
    "instance-family": _INSTANCES,
    "virtual-network-family": _NETWORK,
}
# In the family by their permissions, but the page names no type of their own that a statement could use.
_UNNAMED = frozenset(("email-return-paths", "email-configuration"))
# Types that other services have, and a policy may well name.
_OTHERS = (
    "limits",
    "ons-family",
    "loganalytics-features-family",
    "metrics",
)
_NAMED = (
    *_EMAIL,
    "dkims",
    *_DNS,
    *_IAM,
    *_LOGGING,
    *_INSTANCES,
    *_NETWORK,
    *FAMILIES,
    *_OTHERS,
    "all-resources",
)
TYPES = frozenset(_NAMED) - _UNNAMED

_STATEMENT = re.compile(
    r"allow\s+(?P<subject>group|dynamic-group|any-user)(?P<names>\s+.*?)?\s+to\s+"
    r"(?P<verb>inspect|read|use|manage)\s+(?P<type>[\w-]+)\s+in\s+"
    r"(?P<place>tenancy|compartment\s+(?:id\s+)?\S+)(?:\s+where\s+(?P<condition>.+))?",
    re.IGNORECASE | re.DOTALL,
)
_COMPARISON = re.compile(r"([\w.-]+)\s*(!?=)\s*(?:'([^']*)'|/([^/]*)/)")


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison, or several joined by "all" or "any"."""

    join: str = "all"
    parts: tuple[Condition, ...] = ()
    variable: str = ""
    equal: bool = True
    pattern: str = ""  # a regular expression for the whole value

    def holds(self, variables: Mapping[str, str]) -> bool:
        """A variable that the request does not have makes a comparison false, whichever it is."""
        if self.parts:
            results = [part.holds(variables) for part in self.parts]
            return all(results) if self.join == "all" else any(results)
        value = variables.get(self.variable)
        return value is not None and bool(re.fullmatch(self.pattern, value, re.IGNORECASE)) is self.equal


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of a policy."""

    subject: str  # "group", "dynamic-group", "any-user"
    names: tuple[str, ...]  # names or OCIDs
    verb: str
    type: str
    compartment: str | None  # name or OCID; None: the tenancy
    condition: Condition | None

    def covers(self, verb: str, resource_type: str) -> bool:
        """Whether what it grants is at least `verb` on `resource_type`."""
        types = FAMILIES.get(self.type, (self.type,))
        granted = self.type == "all-resources" or resource_type in types
        return granted and VERBS.index(verb) <= VERBS.index(self.verb)


def parse(text: str) -> Statement:
    """Read one statement. Raises ValueError, which says what is wrong with it."""
    found = _STATEMENT.fullmatch(text.strip())
    if not found:
        raise ValueError(f"cannot parse the statement {text!r}")
    if found["type"].lower() not in TYPES:
        raise ValueError(f"no permissions found for {found['type']!r}")
    names = tuple(_subject(part) for part in (found["names"] or "").split(",") if part.strip())
    subject = found["subject"].lower()
    if bool(names) is (subject == "any-user"):
        raise ValueError(f"cannot parse the subject of {text!r}")
    words = found["place"].split()
    return Statement(
        subject,
        names,
        found["verb"].lower(),
        found["type"].lower(),
        None if words[0].lower() == "tenancy" else words[-1].strip("'"),
        condition(found["condition"]) if found["condition"] else None,
    )


def condition(text: str) -> Condition:
    """Read what follows "where" (or a dynamic group's matching rule). Raises ValueError."""
    text = text.strip()
    joined = re.fullmatch(r"(all|any)\s*\{(.*)\}", text, re.IGNORECASE | re.DOTALL)
    if joined:
        parts = tuple(condition(part) for part in _split(joined[2]))
        if not parts:
            raise ValueError(f"nothing between the braces of {text!r}")
        return Condition(joined[1].lower(), parts)
    found = _COMPARISON.fullmatch(text)
    if not found:
        raise ValueError(f"cannot parse the condition {text!r}")
    pattern = re.escape(found[3]) if found[3] is not None else ".*".join(map(re.escape, found[4].split("*")))
    return Condition(variable=found[1].lower(), equal=found[2] == "=", pattern=pattern)


def _split(text: str) -> list[str]:
    """At commas that are not within braces."""
    parts, depth = [""], 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _subject(text: str) -> str:
    """`'Default'/'NAME'`, `Default/NAME` and `NAME` mean the same; `'Other'/'NAME'`; `id OCID`."""
    text = text.strip()
    if text.lower().startswith("id "):
        return text[3:].strip()
    domain, slash, name = text.rpartition("/")
    name = name.strip("' ")
    if slash and domain.strip("' ").lower() != "default":
        return f"{domain.strip(chr(39) + ' ')}/{name}"
    if not re.fullmatch(r"[\w.@+-]+(?: [\w.@+-]+)*", name) or (" " in name and not text.endswith("'")):
        raise ValueError(f"cannot parse the group {text!r}")
    return name
