"""DMARC records (RFC 9989): read, and what the settings want merged into what is published.

A policy that is stricter than the settings' is never weakened, tags that are not ours stay, report addresses
are added to those that are there. The tags pct, rf and ri are gone from the standard and are not written: a
record that has them is left alone as long as nothing else has to change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from todoku.dns.problems import DmarcProblem
from todoku.dns.text import short

VERSION = "DMARC1"
POLICIES = ("none", "quarantine", "reject")  # from mild to strict
_GONE = ("pct", "rf", "ri")  # RFC 9989: historic
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_BEGINNING = re.compile(r"v\s*=\s*DMARC1\s*(;|$)")  # case-sensitive, and first


@dataclass(frozen=True, slots=True)
class Record:
    """A DMARC record as its tags, in their order; `v` is not among them."""

    tags: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "; ".join((f"v={VERSION}", *(f"{name}={value}" for name, value in self.tags)))

    def get(self, name: str) -> str | None:
        """The value of a tag; names are understood in any case."""
        return next((value for tag, value in self.tags if tag.lower() == name), None)

    def put(self, name: str, value: str) -> Record:
        """This record with the tag set: in its place, or else at the end (`p` at the beginning)."""
        if self.get(name) is None:
            new = (name, value)
            return Record((new, *self.tags) if name == "p" else (*self.tags, new))
        return Record(tuple((tag, value if tag.lower() == name else old) for tag, old in self.tags))

    def without(self, *names: str) -> Record:
        return Record(tuple((tag, value) for tag, value in self.tags if tag.lower() not in names))


def is_dmarc(text: str) -> bool:
    """Whether a TXT value is a DMARC record: the version tag comes first, exactly so."""
    return bool(_BEGINNING.match(text))


def parse(text: str) -> Record:
    """The record that `text` is. Raises DmarcProblem, which quotes what is wrong."""
    if not is_dmarc(text):
        raise DmarcProblem(f'"{short(text)}" is not a DMARC record: it has to begin with "v=DMARC1;"')
    tags: list[tuple[str, str]] = []
    for part in text.split(";")[1:]:
        if not part.strip():
            continue
        # Not by one expression for all of it: a value of 60,000 spaces would keep that busy for half a minute.
        tag, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not _TAG.fullmatch(tag):
            raise DmarcProblem(
                f'the DMARC record has "{short(part.strip())}", which is no TAG=VALUE: correct it where the '
                "record is published"
            )
        if any(tag.lower() == known.lower() for known, _ in tags):
            raise DmarcProblem(f"the DMARC record has the tag {short(tag)} twice: remove one of them")
        tags.append((tag, value))
    return Record(tuple(tags))


def merge(existing: str | None, wanted: str) -> str:
    """`existing` with what `wanted` asks for; `existing` itself, letter by letter, when it does so already.

    Raises DmarcProblem.
    """
    if existing is None:
        return str(parse(wanted))
    before, asked = parse(existing), parse(wanted)
    merged = before
    policy = _policy(before)
    if _strictness(asked.get("p")) > _strictness(policy):
        merged = merged.put("p", asked.get("p") or "none")
    elif before.get("p") != policy:
        merged = merged.put("p", policy)  # missing or misspelt: receivers take it as none, if at all
    if asked.get("rua"):
        merged = merged.put("rua", _with_addresses(before.get("rua") or "", asked.get("rua") or ""))
    if merged == before:
        return existing
    return str(_modern(merged))


def _policy(record: Record) -> str:
    policy = (record.get("p") or "none").lower()
    return policy if policy in POLICIES else "none"


def _strictness(policy: str | None) -> int:
    return POLICIES.index(policy) if policy in POLICIES else 0


def _with_addresses(there: str, wanted: str) -> str:
    known = [uri.strip() for uri in there.split(",") if uri.strip()]
    # RFC 9989: a size limit behind an address ("!10m") means nothing any more.
    bare = {uri.partition("!")[0].lower() for uri in known}
    new = [uri.strip() for uri in wanted.split(",") if uri.strip().lower() not in bare]
    return ",".join([*known, *new]) if new else there


def _modern(record: Record) -> Record:
    """Without the tags that are gone; a pct=0 lives on as t=y, which means the same (RFC 9989, appendix A)."""
    tests = record.get("pct") == "0" and record.get("t") is None
    kept = record.without(*_GONE)
    return kept.put("t", "y") if tests else kept
