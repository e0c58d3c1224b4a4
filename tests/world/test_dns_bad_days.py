# The zone was there before Todoku came, and others edit it too: what they decided stays, what is wrong is told.

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clouds import Tenancy, plan, problems, require_nothing_to_do, settle, waits, writes
from conftest import CONFIG, World

PROOF = '"google-site-verification=0123456789abcdef"'

pytestmark = pytest.mark.slow


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    """Afterwards the zone is as it was."""
    tenancy = Tenancy(world)
    before = _record_sets(tenancy)
    yield tenancy
    world.relay(reset=True)
    for key in _record_sets(tenancy).keys() - before.keys():
        tenancy.put(*key)
    for key, values in before.items():
        if tenancy.values(*key) != values:
            tenancy.put(*key, *values)
    settle(world)
    assert _record_sets(tenancy) == before


def _record_sets(tenancy: Tenancy) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for record in tenancy.records():
        if record.rtype not in ("SOA", "NS"):
            found.setdefault((record.domain, record.rtype), []).append(record.rdata)
    return {key: sorted(values) for key, values in found.items()}


def row(world: World, name: str, type_: str) -> dict[str, Any]:
    checked = json.loads(world.todoku("dns", "check", "--json").stdout)
    (found,) = [each for each in checked["records"] if (each["name"], each["type"]) == (name, type_)]
    return dict(found)


def test_an_existing_spf_record_is_merged_and_what_it_said_is_kept(world: World, tenancy: Tenancy) -> None:
    tenancy.put(world.domain, "TXT", '"v=spf1 ip4:198.51.100.7 -all"', PROOF)
    world.apply()
    values = tenancy.values(world.domain, "TXT")
    assert PROOF in values
    (spf,) = [value.strip('"') for value in values if "v=spf1" in value]
    assert spf.split()[0] == "v=spf1"
    assert spf.split()[-1] == "-all"  # stricter than ours, and theirs to decide
    assert "ip4:198.51.100.7" in spf.split()
    assert "include:ap.rp.oracleemaildelivery.com" in spf.split()
    require_nothing_to_do(world)


def test_two_spf_records_are_told_and_neither_is_touched(world: World, tenancy: Tenancy) -> None:
    both = sorted(['"v=spf1 ip4:198.51.100.7 -all"', '"v=spf1 ip4:198.51.100.8 -all"'])
    tenancy.put(world.domain, "TXT", *both)
    told = problems(plan(world))
    assert "SPF" in told or "spf" in told
    assert world.todoku("apply", "--yes").returncode == 1
    assert tenancy.values(world.domain, "TXT") == both


def test_a_stricter_dmarc_policy_is_not_weakened(world: World, tenancy: Tenancy) -> None:
    strict = f'"v=DMARC1; p=reject; rua=mailto:reports@{world.domain}"'
    tenancy.put(f"_dmarc.{world.domain}", "TXT", strict)
    world.apply()
    (value,) = tenancy.values(f"_dmarc.{world.domain}", "TXT")
    assert "p=reject" in value
    assert f"rua=mailto:reports@{world.domain}" in value
    require_nothing_to_do(world)


def test_somebody_elses_records_are_not_touched(world: World, tenancy: Tenancy) -> None:
    theirs: dict[tuple[str, str], tuple[str, ...]] = {
        (f"www.{world.domain}", "A"): ("192.0.2.80",),
        (f"shop.{world.domain}", "CNAME"): ("shops.outside.example.",),
        (world.domain, "CAA"): ('0 issue "letsencrypt.org"',),
        (f"_dmarc.other.{world.domain}", "TXT"): ('"v=DMARC1; p=reject"',),
    }
    for key, values in theirs.items():
        tenancy.put(*key, *values)
    tenancy.put(f"_dmarc.{world.domain}", "TXT")  # so that there is something to do
    outcome = world.apply()
    assert f"dns:_dmarc.{world.domain}/TXT" in outcome["changed"]
    for key, values in theirs.items():
        assert tenancy.values(*key) == list(values), key


def test_an_mx_that_points_elsewhere_is_a_conflict_that_is_told_and_left(
    world: World, tenancy: Tenancy
) -> None:
    tenancy.put(world.domain, "MX", "10 mail.outside.example.")
    planned = plan(world)
    assert "somebody decided before" in waits(planned)[f"dns:{world.domain}/MX"]
    assert world.apply()["waiting"]
    assert tenancy.values(world.domain, "MX") == ["10 mail.outside.example."]
    forced = world.todoku("apply", "--yes", "--force")
    assert forced.returncode == 0, forced.stdout + forced.stderr
    assert tenancy.values(world.domain, "MX") == [f"10 {world.hostname}."]


def test_a_name_that_a_web_console_doubled_is_told(world: World, tenancy: Tenancy) -> None:
    name = f"_dmarc.{world.domain}"
    values = tenancy.values(name, "TXT")
    tenancy.put(name, "TXT")
    tenancy.put(f"{name}.{world.domain}", "TXT", *values)
    found = row(world, name, "TXT")
    assert not found["right"]
    assert "appended the zone to a full name" in " ".join(found["remarks"])
    assert f"{name}.{world.domain}" in " ".join(found["remarks"])
    world.apply()
    assert tenancy.values(name, "TXT") == values
    assert tenancy.values(f"{name}.{world.domain}", "TXT") == values  # not ours to remove


def test_a_cname_where_another_record_belongs_is_told_and_nothing_is_changed(
    world: World, tenancy: Tenancy
) -> None:
    name = f"_dmarc.{world.domain}"
    tenancy.put(name, "TXT")
    tenancy.put(name, "CNAME", "dmarc.outside.example.")
    world.relay(reset=True)
    told = problems(plan(world))
    assert f"{name} is a CNAME, beside which no TXT record can exist" in told
    assert world.todoku("apply", "--yes").returncode == 1
    assert writes(world) == {}
    assert tenancy.values(name, "CNAME") == ["dmarc.outside.example."]


def test_a_change_of_more_than_30_percent_of_a_zone_is_refused_unless_forced(
    world: World, tenancy: Tenancy
) -> None:
    # Of some twelve record sets four would change: the policy by the settings, three because somebody has
    # changed them.
    checked = json.loads(world.todoku("dns", "check", "--json").stdout)
    wanted = {(each["name"], each["type"]) for each in checked["records"]}
    for key in _record_sets(tenancy).keys() - wanted:
        tenancy.put(*key)  # what earlier rotations have left
    for name in ("www", "shop"):
        tenancy.put(f"{name}.{world.domain}", "A", "192.0.2.80")
    spf = '"v=spf1 ip4:198.51.100.7 -all"'
    tenancy.put(world.domain, "TXT", spf)
    aliases = [key for key in _record_sets(tenancy) if key[1] == "CNAME"]
    for key in aliases:
        tenancy.put(*key, "elsewhere.outside.example.")
    strict = Path("/etc/todoku/strict.toml")  # readable for the gate, which is not root
    strict.write_text(re.sub(r'(?m)^#?policy = "none"$', 'policy = "quarantine"', CONFIG.read_text()))
    world.relay(reset=True)
    planned = json.loads(world.todoku("--config", str(strict), "plan", "--json").stdout)
    assert "4 of the " in problems(
        planned
    )  # the CNAMEs, whose targets the cloud chooses, are counted as well
    done = world.todoku("--config", str(strict), "apply", "--yes")
    assert done.returncode == 1, done.stdout
    assert "4 of the " in done.stdout
    assert "more than 30%" in " ".join(done.stdout.split())
    assert "patch_rr_set" not in writes(world)
    assert tenancy.values(world.domain, "TXT") == [spf]
    forced = world.todoku("--config", str(strict), "apply", "--yes", "--force")
    assert forced.returncode == 0, forced.stdout + forced.stderr
    (merged,) = tenancy.values(world.domain, "TXT")
    assert "ip4:198.51.100.7" in merged  # forced, and merged all the same
    assert "p=quarantine" in tenancy.values(f"_dmarc.{world.domain}", "TXT")[0]
