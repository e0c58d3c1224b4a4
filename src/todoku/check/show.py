"""Findings for people and for programs. Nothing that somebody else wrote reaches the terminal unprintable."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from todoku.check.finding import Finding, Verdict, is_failed
from todoku.check.providers import Judgement
from todoku.check.rules import PROVIDERS

_WIDTH = 118  # characters
_INDENT = " " * 8


def as_json(findings: Sequence[Finding], judgements: Sequence[Judgement], seconds: float) -> dict[str, Any]:
    """`ok`: nothing has failed. `counts`: how many of each verdict, whatever is left out of `findings`."""
    return {
        "ok": not is_failed(findings),
        "seconds": round(seconds, 2),
        "counts": counts(findings),
        "findings": [finding.as_json() for finding in findings],
        "providers": [judgement.as_json() for judgement in judgements],
    }


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {verdict.value: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}


def problems(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is not Verdict.PASS]


def lines(
    findings: Sequence[Finding], judgements: Sequence[Judgement], *, only_problems: bool = False
) -> Iterator[str]:
    """What is printed: the findings as they come, a line for each provider, and the sum."""
    for finding in problems(findings) if only_problems else findings:
        about = f" ({finding.about})" if finding.about else ""
        yield from _wrapped(f"{finding.verdict.value.upper():8}{finding.rule}{about}: {finding.seen}")
        if finding.advice:
            yield from _wrapped(f"{_INDENT}-> {finding.advice}", more="   ")
    if judgements:
        yield ""
    wide = max(map(len, PROVIDERS)) + 2
    for judgement in judgements:
        yield from _wrapped(f"{judgement.provider:{wide}}{judgement}", more=" " * (wide - len(_INDENT)))
    number = counts(findings)
    yield ", ".join(f"{number[verdict.value]} {verdict.value}" for verdict in Verdict)


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "?" for c in text)


def _wrapped(text: str, more: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        subsequent_indent=_INDENT + more,
        break_long_words=False,
        break_on_hyphens=False,
    )
