# Held against something that nobody here wrote: the openspf.org test suite for RFC 7208, and pyspf's own. They ask
# for a verdict about one message, the judge for one about the record: where a suite has a permanent error, the judge
# has to see a failure, and where it has a verdict, none. The differences that remain are listed, each with its reason.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from internet_for_checks import RESOLVER, Circles, txt

from todoku.check import spf
from todoku.check.finding import Verdict
from todoku.check.means import Dns, Unanswered
from todoku.dns.lookups import Lookups

SUITES = [Path(__file__).parents[2] / "data/spf" / name for name in ("rfc7208-tests.yml", "pyspf-tests.yml")]
# The evaluation of one message ends at the first match; the judge looks at the whole record, as another message may
# come that far.
BEHIND_A_MATCH = "the suite's message matches before the fault is reached"
DIFFERENT: dict[str, str] = {"include-at-limit": BEHIND_A_MATCH}


def scenarios() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for suite in SUITES:
        for scenario in yaml.safe_load_all(suite.read_text("latin-1")):
            for name, test in scenario["tests"].items():
                yield name, test, scenario["zonedata"]


def internet(zonedata: dict[str, Any]) -> Lookups:
    made = Circles()
    zones: dict[str, dict[tuple[str, str], list[str]]] = {}
    for owner, entries in zonedata.items():
        name = str(owner).lower().rstrip(".")
        zone = ".".join(name.split(".")[-2:])
        records = zones.setdefault(zone, {})
        given = [entry for entry in entries if isinstance(entry, dict)]
        has_txt = any("TXT" in entry for entry in given)
        for entry in given:
            ((type_, value),) = entry.items()
            if type_ == "SPF" and has_txt:
                continue
            if value == "NONE":
                continue
            real = "TXT" if type_ == "SPF" else type_
            records.setdefault((name, real), []).append(_presented(real, value))
    for zone, records in zones.items():
        made.zone(zone, records)
    return Lookups((RESOLVER,), send=made.send, timeout=0.1)


def _presented(type_: str, value: Any) -> str:
    if type_ == "TXT":
        parts = value if isinstance(value, list) else [value]
        return " ".join(txt(str(part)) for part in parts)
    if type_ == "MX":
        return f"{value[0]} {str(value[1]).rstrip('.')}."
    return f"{value}." if type_ in ("CNAME", "PTR") and not str(value).endswith(".") else str(value)


def cases() -> list[Any]:
    found = []
    for name, test, zonedata in scenarios():
        domain = str(test.get("mailfrom") or test["helo"]).rpartition("@")[2].lower().rstrip(".")
        results = test["result"] if isinstance(test["result"], list) else [test["result"]]
        timeouts = any("TIMEOUT" in entries for entries in zonedata.values())
        if "temperror" in results or (timeouts and "permerror" not in results):
            continue
        found.append(pytest.param(name, domain, results, zonedata, id=f"{name}"))
    return found


@pytest.mark.parametrize(("name", "domain", "results", "zonedata"), cases())
def test_the_judge_agrees_with_the_suite(
    name: str, domain: str, results: list[str], zonedata: dict[str, Any]
) -> None:
    try:
        findings = list(spf.look(domain, Dns(internet(zonedata))))
    except Unanswered:
        findings = []
    broken = {f.rule for f in findings if f.verdict is Verdict.FAIL} - {"spf.all", "spf.relay"}
    agrees = bool(broken) if {"permerror", "none"} & set(results) else not broken
    if len(results) > 1 and "permerror" in results:
        return  # the suite allows either
    assert agrees is (name not in DIFFERENT), (results, findings, DIFFERENT.get(name))


def test_the_suite_is_there_and_hardly_anything_is_left_out() -> None:
    assert len(cases()) > 175
    assert set(DIFFERENT) <= {case.id for case in cases()}
