# An SPF record that needs too many look-ups is ignored by receivers, silently: the owner learns of it from mail that
# does not arrive. What Todoku would publish is counted by asking the real DNS, and refused with who costs what.

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clouds import Tenancy, plan, problems, writes
from conftest import World

RELAY = "include:ap.rp.oracleemaildelivery.com"


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    """Afterwards the domain's TXT records are as they were, and the names that a test added are gone."""
    tenancy = Tenancy(world)
    before = {(r.domain, r.rtype) for r in tenancy.records()}
    with tenancy.changed(world.domain, "TXT", *tenancy.values(world.domain, "TXT")):
        yield tenancy
    for key in {(r.domain, r.rtype) for r in tenancy.records()} - before:
        tenancy.put(*key)


def test_more_than_ten_look_ups_are_refused_with_who_costs_what(world: World, tenancy: Tenancy) -> None:
    shop, news = f"_spf.shop.{world.domain}", f"_spf.news.{world.domain}"
    tenancy.put(
        shop,
        "TXT",
        f'"v=spf1 a:{world.hostname} a:{world.hostname} a:{world.hostname} mx:{world.domain} ~all"',
    )
    tenancy.put(news, "TXT", f'"v=spf1 include:{shop} -all"')
    tenancy.put(world.domain, "TXT", f'"v=spf1 include:{news} mx -all"')
    # news: itself, shop, and shop's four; mx; the relay's: 8 of 10.
    assert problems(plan(world)) == ""
    tenancy.put(world.domain, "TXT", f'"v=spf1 include:{news} include:{shop} mx -all"')
    there = tenancy.values(world.domain, "TXT")
    told = problems(plan(world))
    assert "would need 13 look-ups (at most 10), 0 of them finding nothing" in told
    assert f"Look-ups by term: include:{news}: 6; include:{shop}: 5; mx: 1; {RELAY}: 1" in told
    world.relay(reset=True)
    applied = world.todoku("apply", "--yes")
    assert applied.returncode == 1, applied.stdout
    assert " ".join(told.split()) in " ".join(applied.stdout.split())
    assert writes(world) == {}
    assert tenancy.values(world.domain, "TXT") == there


def test_more_than_two_look_ups_that_find_nothing_are_refused(world: World, tenancy: Tenancy) -> None:
    gone = [f"gone{number}.{world.domain}" for number in range(3)]
    tenancy.put(world.domain, "TXT", f'"v=spf1 a:{gone[0]} exists:{gone[1]} -all"')
    assert problems(plan(world)) == ""
    tenancy.put(world.domain, "TXT", f'"v=spf1 a:{gone[0]} exists:{gone[1]} mx:{gone[2]} -all"')
    told = problems(plan(world))
    assert "4 look-ups (at most 10), 3 of them finding nothing (at most 2)" in told
    assert f"mx:{gone[2]}: 1 (1 of them find nothing)" in told


def test_an_include_that_leads_nowhere_or_in_a_circle_is_refused(world: World, tenancy: Tenancy) -> None:
    circle = f"_spf.{world.domain}"
    tenancy.put(circle, "TXT", f'"v=spf1 include:{circle} -all"')
    tenancy.put(world.domain, "TXT", f'"v=spf1 include:{circle} -all"')
    assert f"include:{circle} > include:{circle} goes in a circle" in problems(plan(world))
    tenancy.put(world.domain, "TXT", '"v=spf1 include:nobody.outside.example -all"')
    assert "nobody.outside.example has no SPF record" in problems(plan(world))
