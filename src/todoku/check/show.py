"""Findings for people and for programs. Nothing that somebody else wrote reaches the terminal unprintable."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from todoku.check.causes import consequences
from todoku.check.finding import Finding, Verdict, is_failed
from todoku.check.providers import Judgement
from todoku.check.rules import PROVIDERS

_WIDTH = 118  # characters
_OF_THIS_HOST = (
    "host",
    "cloud",
    "relay",
    "submission",
)  # what each is about says little where it is in order
_MOST_NAMED = 6  # rules
_INDENT = " " * 8


def as_json(findings: Sequence[Finding], judgements: Sequence[Judgement], seconds: float) -> dict[str, Any]:
    """`ok`: nothing has failed. `counts`: how many of each verdict, whatever is left out of `findings`."""
    return {
        "ok": not is_failed(findings),
        "seconds": round(seconds, 2),
        "counts": counts(findings),
        "findings": as_entries(findings),
        "providers": [judgement.as_json() for judgement in judgements],
    }


def as_entries(findings: Sequence[Finding], *, only_problems: bool = False) -> list[dict[str, Any]]:
    """The findings for programs, each with `because`: the rule and the thing that it follows from, if it does."""
    followers = consequences(findings)
    entries = []
    for each in problems(findings) if only_problems else findings:
        cause = followers.get(each)
        because = None if cause is None else {"rule": cause.rule, "about": cause.about}
        entries.append({**each.as_json(), "because": because})
    return entries


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {verdict.value: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}


def problems(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is not Verdict.PASS]


def lines(
    findings: Sequence[Finding],
    judgements: Sequence[Judgement],
    *,
    only_problems: bool = False,
    brief: bool = False,
) -> Iterator[str]:
    """What is printed: the findings as they come, a line for each provider, and the sum.

    What follows from something else is named below that, and what is said of several things is said once. `brief`: of
    what is as it has to be only the names, a line for each subject.
    """
    followers = consequences(findings)
    for block in _alike([each for each in problems(findings) if each not in followers]):
        yield from _told(block, [each for each in findings if followers.get(each) in block])
    fine = [] if only_problems else [each for each in findings if each.verdict is Verdict.PASS]
    if brief:
        yield from _subjects(fine)
    else:
        for each in fine:
            yield from _told([each], [])
    if judgements:
        yield ""
    wide = max(map(len, PROVIDERS)) + 2
    for judgement in judgements:
        yield from _wrapped(f"{judgement.provider:{wide}}{judgement}", more=" " * (wide - len(_INDENT)))
    number = counts(findings)
    yield ", ".join(f"{number[verdict.value]} {verdict.value}" for verdict in Verdict)


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Those together of which the same is said but for what it is about; in the order of the first of each."""
    blocks: dict[tuple[object, ...], list[Finding]] = {}
    for each in findings:
        if each.verdict is Verdict.UNKNOWN and not _names_itself(each):
            # What is not known for one reason is not known for it whatever the rule.
            same: tuple[object, ...] = (each.verdict, each.seen, each.advice)
        else:
            same = (each.verdict, each.rule, _template(each, each.seen), _template(each, each.advice))
        blocks.setdefault(same, []).append(each)
    return list(blocks.values())


def _names_itself(finding: Finding) -> bool:
    """Whether it names its port in the words. Other things are parts of longer names there (_dmarc.hoge.example)."""
    return finding.about.startswith("port ") and finding.about in finding.seen


def _template(finding: Finding, text: str) -> str:
    return text.replace(finding.about, "\0") if _names_itself(finding) else text


def _told(block: Sequence[Finding], followers: Sequence[Finding]) -> Iterator[str]:
    first, abouts = block[0], _joined(block)
    seen, advice = first.seen, first.advice
    if _names_itself(first):
        seen, advice = (_template(first, text).replace("\0", abouts) for text in (seen, advice))
    yield from _wrapped(f"{first.verdict.value.upper():8}{_named(block)}: {seen}")
    if advice:
        yield from _wrapped(f"{_INDENT}-> {advice}", more="   ")
    if followers:
        yield from _wrapped(f"{_INDENT}   Because of this also: {_shortly(followers)}", more="   ")


def _shortly(findings: Sequence[Finding]) -> str:
    """All of them by name, or by subject where they are too many to be read."""
    if len({each.rule for each in findings}) <= _MOST_NAMED:
        return _named(findings)
    subjects = dict.fromkeys(each.rule.partition(".")[0] for each in findings)
    return f"{len(findings)} more ({', '.join(subjects)})"


def _named(findings: Sequence[Finding]) -> str:
    """ "spf.record (hoge.example), tls.offered (port 25, 465)": each rule once, with all that it is about."""
    rules: dict[str, list[Finding]] = {}
    for each in findings:
        rules.setdefault(each.rule, []).append(each)
    return ", ".join(
        f"{rule} ({about})" if (about := _joined(each)) else rule for rule, each in rules.items()
    )


def _joined(findings: Sequence[Finding]) -> str:
    abouts = list(dict.fromkeys(each.about for each in findings if each.about))
    if len(abouts) > 1 and all(about.startswith("port ") for about in abouts):
        return f"ports {', '.join(about.removeprefix('port ') for about in abouts)}"
    return ", ".join(abouts)


def _subjects(findings: Sequence[Finding]) -> Iterator[str]:
    """ "PASS    spf (hoge.example): record, syntax, lookups"."""
    subjects: dict[str, list[Finding]] = {}
    for each in findings:
        subjects.setdefault(each.rule.partition(".")[0], []).append(each)
    for subject, of_it in subjects.items():
        rules = ", ".join(dict.fromkeys(each.rule.partition(".")[2] for each in of_it))
        about = "" if subject in _OF_THIS_HOST else _joined(of_it)
        yield from _wrapped(f"{'PASS':8}{subject}{f' ({about})' if about else ''}: {rules}")


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
