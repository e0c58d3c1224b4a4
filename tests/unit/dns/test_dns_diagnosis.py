# The mistakes that people make with DNS consoles are always the same, and the symptom ("DKIM: needs attention")
# never names them.

from __future__ import annotations

import pytest
from internet import Internet

from todoku.dns import diagnosis
from todoku.dns.lookups import Lookups, NotFound, Status

ZONE = "hoge.example"
NAME = f"sel._domainkey.{ZONE}"
TARGET = "sel.hoge.example.dkim.nrt1.oracleemaildelivery.com"


@pytest.fixture
def world() -> Internet:
    return Internet()


def kinds(world: Internet, name: str = NAME, type_: str = "CNAME", wanted: str = TARGET) -> list[str]:
    return [t.kind for t in diagnosis.examine(world.lookups(), name, type_, [wanted]).troubles]


def text(world: Internet, kind: str) -> str:
    view = diagnosis.examine(world.lookups(), NAME, "CNAME", [TARGET])
    return next(trouble.text for trouble in view.troubles if trouble.kind == kind)


def test_a_record_that_is_right_has_no_trouble(world: Internet) -> None:
    world.zone(ZONE, {(NAME, "CNAME"): [f"{TARGET}."]})
    view = diagnosis.examine(world.lookups(), NAME, "CNAME", [TARGET])
    assert view.shows([TARGET])
    assert view.resolved.values == (TARGET,)
    assert view.troubles == ()


def test_a_console_that_appended_the_zone_is_found_out(world: Internet) -> None:
    world.zone(ZONE, {(f"{NAME}.{ZONE}", "CNAME"): [f"{TARGET}."]})
    assert kinds(world) == ["doubled"]
    assert f"{NAME}.{ZONE}" in text(world, "doubled")


@pytest.mark.parametrize(
    ("name", "type_", "wanted", "entered"),
    [(NAME, "CNAME", TARGET, f"{TARGET}.{ZONE}."), (ZONE, "MX", f"10 mx.{ZONE}", f"5 mx.{ZONE}.{ZONE}.")],
)
def test_a_console_that_appended_the_zone_to_the_value_is_found_out(
    world: Internet, name: str, type_: str, wanted: str, entered: str
) -> None:
    world.zone(ZONE, {(name, type_): [entered]})
    view = diagnosis.examine(world.lookups(), name, type_, [wanted])
    assert [trouble.kind for trouble in view.troubles] == ["doubled"]
    assert view.troubles[0].text.endswith(f"with a dot at the end, {wanted.split()[-1]}.")
    other = "5 mx.elsewhere.example" if type_ == "MX" else "elsewhere.example"
    assert kinds(world, name, type_, other) == []


def test_a_cname_beside_other_records_is_found_out(world: Internet) -> None:
    world.zone(ZONE, {(NAME, "CNAME"): [f"{TARGET}."], (NAME, "TXT"): ['"v=DKIM1"']})
    assert kinds(world) == ["cname-beside"]
    assert "TXT" in text(world, "cname-beside")


def test_a_cname_where_other_records_are_wanted_is_found_out(world: Internet) -> None:
    world.zone(ZONE, {(f"mx.{ZONE}", "CNAME"): ["elsewhere.example."]})
    assert kinds(world, f"mx.{ZONE}", "A", "203.0.113.10") == ["cname-beside"]


def test_a_zone_with_broken_signatures_is_found_out_and_still_looked_at(world: Internet) -> None:
    world.zone(ZONE, {(NAME, "CNAME"): [f"{TARGET}."]})
    world.bogus.add(ZONE)
    view = diagnosis.examine(world.lookups(), NAME, "CNAME", [TARGET])
    assert [trouble.kind for trouble in view.troubles] == ["dnssec"]
    assert view.shows([TARGET])
    assert view.resolved.status is Status.BROKEN


def test_a_server_that_does_not_serve_the_zone_is_named(world: Internet) -> None:
    right = {(NAME, "CNAME"): [f"{TARGET}."]}
    world.zone(ZONE, right, right)
    world.lame.add("198.51.100.11")
    assert kinds(world) == ["lame"]
    assert f"ns1.{ZONE}" in text(world, "lame")


def test_servers_that_disagree_are_named_with_what_they_say(world: Internet) -> None:
    world.zone(ZONE, {(NAME, "CNAME"): [f"{TARGET}."]}, {})
    assert kinds(world) == ["split"]
    assert "nothing" in text(world, "split")
    assert not diagnosis.view(world.lookups(), NAME, "CNAME").shows([TARGET])


def test_a_silent_server_is_a_finding_and_not_an_error(world: Internet) -> None:
    right = {(NAME, "CNAME"): [f"{TARGET}."]}
    world.zone(ZONE, right, right)
    world.silent.add("198.51.100.11")
    view = diagnosis.examine(world.lookups(), NAME, "CNAME", [TARGET])
    assert [trouble.kind for trouble in view.troubles] == ["silent"]
    assert view.shows([TARGET])


def test_the_zone_is_found_from_a_name_deep_inside_it_and_not_asked_for_twice(world: Internet) -> None:
    world.zone(ZONE, {})
    world.zone(f"sub.{ZONE}", {})
    lookups = world.lookups()
    assert lookups.zone_of(f"a.b.{ZONE}").name == ZONE
    assert lookups.zone_of(f"a.sub.{ZONE}").name == f"sub.{ZONE}"
    asked = len(world.asked)
    lookups.zone_of(f"a.b.{ZONE}")
    assert len(world.asked) == asked


def test_a_name_below_an_alias_is_still_in_the_zone_of_the_alias(world: Internet) -> None:
    world.zone(ZONE, {(f"www.{ZONE}", "CNAME"): ["host.other.example."]})
    assert world.lookups().zone_of(f"www.{ZONE}").name == ZONE


def test_a_resolver_that_does_not_answer_is_named() -> None:
    world = Internet(silent={"192.0.2.1"})
    with pytest.raises(NotFound, match=r"192\.0\.2\.1.*no answer"):
        world.lookups().zone_of(ZONE)
    assert Lookups(()).resolve(ZONE, "MX").status is Status.SILENT
