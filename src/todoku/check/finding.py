"""What the judge says about one thing: a value, the same for the command line, for JSON and for tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from todoku.check.rules import RULES


class Verdict(Enum):
    """How it stands, each with its sentence."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Verdict.PASS: "as it has to be",
    Verdict.WARN: "works, but not for everybody or not for long",
    Verdict.FAIL: "mail is refused, lost or forged because of this",
    Verdict.UNKNOWN: "could not be found out",
}
_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule, held against one thing."""

    rule: str  # "dmarc.alignment", one of `rules.RULES`
    verdict: Verdict
    seen: str  # what was looked at and what it said
    advice: str = ""  # what to do now, in the imperative; empty on PASS
    about: str = ""  # the domain, address or port that was looked at

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"{self.rule} is not in todoku.check.rules")
        if (self.verdict is Verdict.PASS) == bool(self.advice):
            raise ValueError(f"{self.rule}: advice belongs to everything but a pass")

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "verdict": self.verdict.value,
            "title": RULES[self.rule].title,
            "source": RULES[self.rule].source,
        }


def passed(rule: str, seen: str, about: str = "") -> Finding:
    return Finding(rule, Verdict.PASS, seen, "", about)


def warned(rule: str, seen: str, advice: str, about: str = "") -> Finding:
    return Finding(rule, Verdict.WARN, seen, advice, about)


def failed(rule: str, seen: str, advice: str, about: str = "") -> Finding:
    return Finding(rule, Verdict.FAIL, seen, advice, about)


def unknown(rule: str, seen: str, advice: str, about: str = "") -> Finding:
    return Finding(rule, Verdict.UNKNOWN, seen, advice, about)


def by_urgency(findings: Iterable[Finding]) -> list[Finding]:
    """What to do first, first: failures before what is not known, warnings, passes; then as `RULES` has them."""
    order = {rule: place for place, rule in enumerate(RULES)}
    return sorted(findings, key=lambda f: (_FIRST.index(f.verdict), order[f.rule], f.about, f.seen))


def is_failed(findings: Iterable[Finding]) -> bool:
    return any(finding.verdict is Verdict.FAIL for finding in findings)
