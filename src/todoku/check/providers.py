"""What the findings mean at each of the large providers: accepted, accepted but, refused because.

What a provider asks for is in `rules`, from its own pages. Whether a sender counts as bulk (about 5,000 messages a
day to one provider) is not known here, so what only bulk senders are refused for is an "accepted but".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from todoku.check.causes import consequences
from todoku.check.finding import Finding, Verdict, by_urgency
from todoku.check.rules import PROVIDERS, RULES, Demand


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one provider makes of mail from here."""

    provider: str  # "Gmail", "Yahoo", "Outlook"
    outcome: str  # "accepted", "accepted but", "refused because", "not known because"
    reasons: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.outcome} {'; '.join(self.reasons)}".strip()

    def as_json(self) -> dict[str, Any]:
        return {"provider": self.provider, "outcome": self.outcome, "reasons": list(self.reasons)}


def judge(findings: Sequence[Finding]) -> list[Judgement]:
    """A line for each provider; none when nothing that they ask for was looked at."""
    relevant = [f for f in by_urgency(findings) if RULES[f.rule].demands]
    if not relevant:
        return []
    return [_judgement(provider, relevant) for provider in PROVIDERS]


def _judgement(provider: str, findings: Sequence[Finding]) -> Judgement:
    refused = [f for f in findings if f.verdict is Verdict.FAIL and _demand(f, provider) is Demand.ALL]
    refused += _unauthenticated(provider, findings)
    if refused:
        return Judgement(provider, "refused because", _reasons(refused))
    unclear = [f for f in findings if f.verdict is Verdict.UNKNOWN and _demand(f, provider) is Demand.ALL]
    if unclear:
        return Judgement(provider, "not known because", _reasons(unclear))
    but = [
        f for f in findings if f.verdict is not Verdict.PASS and _demand(f, provider) is not Demand.NOTHING
    ]
    return Judgement(provider, "accepted but" if but else "accepted", _reasons(but))


def _unauthenticated(provider: str, findings: Sequence[Finding]) -> list[Finding]:
    """SPF or DKIM is asked of everybody at Gmail and Yahoo: one of them may fail, not both for the same domain."""
    if provider == "Outlook":
        return []
    broken: dict[str, dict[str, Finding]] = {}
    for finding in findings:
        kind = finding.rule.partition(".")[0]
        if finding.verdict is Verdict.FAIL and kind in ("spf", "dkim"):
            broken.setdefault(finding.about, {}).setdefault(kind, finding)
    return [f for kinds in broken.values() if len(kinds) == 2 for f in kinds.values()]


def _demand(finding: Finding, provider: str) -> Demand:
    return RULES[finding.rule].demands.get(provider, Demand.NOTHING)


def _reasons(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Each rule once for each thing: the title, and what it is about. Not what only follows from another of them."""
    followers = consequences(findings)
    standing = [f for f in findings if f not in followers]
    named = (f"{_unsure(f)}{RULES[f.rule].title}{f' ({f.about})' if f.about else ''}" for f in standing)
    return tuple(dict.fromkeys(named))


def _unsure(finding: Finding) -> str:
    return "perhaps " if finding.verdict is Verdict.UNKNOWN else ""
