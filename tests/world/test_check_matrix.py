# Every mistake that people make in their zones has its finding, and no other failure: the matrix of the unit tests
# (tests/unit/check/broken_zones.py), here served by real name servers, each mistake at a domain of its own.

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import name_servers
import pytest
from conftest import World

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/check"))
from broken_zones import MUTATIONS
from internet_for_checks import DOMAIN, SELECTOR, Place, Records

from todoku.check import runner, topics
from todoku.check.finding import Finding, Verdict
from todoku.check.means import Dns, Means
from todoku.dns import text
from todoku.dns.lookups import Lookups
from todoku.dns.rfc2136 import Key
from todoku.rehearsal.internet import nameserver
from todoku.rehearsal.internet.zones import NAME_SERVER

IN_ORDER = "in order"
DOMAINS = {name: f"m{number:03}.example" for number, name in enumerate((IN_ORDER, *MUTATIONS))}
assert len(DOMAIN) == len(DOMAINS[IN_ORDER])  # so that long strings are split at the same places


def place_of(name: str) -> Place:
    place = Place()
    if name != IN_ORDER:
        MUTATIONS[name][0](place)
    return place


def zone_text(domain: str, records: Records, *, second: bool) -> str:
    """As a zone file. `second`: there is another name server."""
    lines = [f"{domain}. 300 SOA {NAME_SERVER}. hostmaster.{domain}. 1 3600 600 86400 300"]
    lines.append(f"{domain}. 300 NS {NAME_SERVER}.")
    if second:
        lines += [f"{domain}. 300 NS ns2.{domain}.", f"ns2.{domain}. 300 A {name_servers.ADDRESS}"]
    for (owner, type_), values in records.items():
        lines += [f"{owner}. 300 {type_} {_renamed(type_, value, domain)}" for value in values]
    return "\n".join(lines).replace(DOMAIN, domain) + "\n"


def _renamed(type_: str, value: str, domain: str) -> str:
    """Also where the limit of 255 bytes has cut the name of the domain in two."""
    renamed = value.replace(DOMAIN, domain)
    if type_ == "TXT" and DOMAIN in (whole := text.plain("TXT", renamed)):
        return text.presentation("TXT", whole.replace(DOMAIN, domain))
    return renamed


@pytest.fixture(scope="module")
def domains(the_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Mutation -> the domain that has it."""
    assert the_world.described["dns"]["ip"] == name_servers.WORLD
    places = {name: place_of(name) for name in DOMAINS}
    texts = {
        DOMAINS[name]: zone_text(DOMAINS[name], place.ours, second=place.second is not None)
        for name, place in places.items()
    }
    # A second server: it serves what differs, and refuses what it does not know (lame).
    others = {
        DOMAINS[name]: zone_text(DOMAINS[name], place.second, second=True)
        for name, place in places.items()
        if place.second is not None and place.second != place.ours
    }
    key = Key("todoku", "hmac-sha256", b"0" * 32)
    with name_servers.knot(tmp_path_factory.mktemp("second"), key, others, port=53):
        nameserver.add_zones(nameserver.FOLDER, texts)
        yield DOMAINS
        nameserver.remove_zones(nameserver.FOLDER, texts)


def seen(domain: str) -> list[Finding]:
    """As `todoku check domain` sees it."""
    return runner.run(topics.outside(domain, Means(Dns(Lookups.of_system())), (SELECTOR,)))


def rules(findings: list[Finding], verdict: Verdict) -> set[str]:
    return {finding.rule for finding in findings if finding.verdict is verdict}


def test_each_mistake_has_its_finding_and_no_other(domains: dict[str, str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(domains, pool.map(seen, domains.values()), strict=True))
    wrong = []
    assert len(found) > 80
    for name, findings in found.items():
        failing, warning = MUTATIONS[name][1:] if name != IN_ORDER else (set(), set())
        told = rules(findings, Verdict.FAIL), rules(findings, Verdict.WARN), rules(findings, Verdict.UNKNOWN)
        if told != (failing, warning, set()):
            wrong.append((name, domains[name], told, [str(f) for f in findings if f.advice]))
    assert not wrong, "\n".join(map(str, wrong))
