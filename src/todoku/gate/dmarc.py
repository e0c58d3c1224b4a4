"""DMARC as RFC 9989 has it: the record that applies to a domain, and its organizational domain, both found by
walking up the DNS tree (4.10), at most eight questions for each name. No list of public suffixes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from todoku.gate.resolver import Found, Lookup

_MOST_LABELS = 8  # 4.10: of a longer name only itself and its last seven labels are asked for
_WEAKER = {"reject": "quarantine", "quarantine": "none", "none": "none"}


@dataclass(frozen=True, slots=True)
class Record:
    """A DMARC record that is in effect at `domain`."""

    domain: str
    tags: dict[str, str]

    def policy_for(self, author: str, *, exists: bool) -> str:
        """What is asked for mail that fails: "none", "quarantine" or "reject" (4.7: p, sp, np; t=y)."""
        policy = self.tags["p"]
        if author != self.domain:
            policy = self.tags.get("sp", policy)
            if not exists:
                policy = self.tags.get("np", policy)
        return _WEAKER[policy] if self.tags.get("t") == "y" else policy


def parse(domain: str, texts: tuple[bytes, ...]) -> Record | None:
    """The record among a name's TXT values; None when there is none, or more than one, or it is no use."""
    found = [tags for text in texts if (tags := _tags(text)) is not None]
    if len(found) != 1:
        return None
    tags = found[0]
    for name in ("sp", "np"):
        if tags.get(name) not in _WEAKER:
            tags.pop(name, None)
    if tags.get("p") not in _WEAKER:
        # 4.7: without a usable policy it still is one that asks for reports, or it is to be ignored.
        if "rua" not in tags and tags.get("psd") is None:
            return None
        tags["p"] = "none"
    return Record(domain, tags)


def _tags(text: bytes) -> dict[str, str] | None:
    parts = [part.partition("=") for part in text.decode("utf-8", "replace").split(";")]
    pairs = [(name.strip(), value.strip()) for name, _, value in parts]
    if pairs[0] != ("v", "DMARC1"):  # the version comes first, and in these letters
        return None
    tags: dict[str, str] = {}
    for name, value in pairs[1:]:
        lowered = name.lower()
        folded = value if lowered in ("rua", "ruf") else value.lower()
        tags.setdefault(lowered, folded)
    return tags


class Walk:
    """The way up from one domain, each name asked for once. Raises DnsTrouble where it is read."""

    def __init__(self, domain: str, lookup: Lookup) -> None:
        self.domain = domain
        self._lookup = lookup

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Those found, from the domain up; the walk ends at one that says whether it is a public suffix."""
        found = []
        for name in _names(self.domain):
            record = parse(name, self._lookup(f"_dmarc.{name}", "TXT").values)
            if record:
                found.append(record)
                if record.tags.get("psd") in ("y", "n"):
                    break
        return tuple(found)

    @cached_property
    def organization(self) -> str:
        """The organizational domain (4.10.2); without any record it is the domain itself."""
        for record in self.records:
            if record.tags.get("psd") == "n":
                return record.domain
            if record.tags.get("psd") == "y" and record.domain != self.domain:
                above = record.domain.count(".") + 1
                return ".".join(self.domain.split(".")[-above - 1 :])
        return self.records[-1].domain if self.records else self.domain

    @property
    def policy(self) -> Record | None:
        """The record that applies (4.10.1): the domain's own, the organization's, or the public suffix's."""
        for name in (self.domain, self.organization):
            record = next((record for record in self.records if record.domain == name), None)
            if record:
                return record
        return next((record for record in self.records if record.tags.get("psd") == "y"), None)


def _names(domain: str) -> Iterator[str]:
    labels = domain.split(".")
    yield domain
    for length in range(min(len(labels) - 1, _MOST_LABELS - 1), 0, -1):
        yield ".".join(labels[-length:])


def exists(domain: str, lookup: Lookup) -> bool:
    """Whether the name exists at all (4.7, np: NXDOMAIN)."""
    found: Found = lookup(domain, "A")
    return found.exists
