# A record set in the plan: what somebody else decided is not overwritten, what is published counts only when the
# world can see it, and a second apply is empty.

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from internet import Internet

from todoku.dns import overview
from todoku.dns.client import Names
from todoku.dns.guard import FewChanges, refusal
from todoku.dns.manual import Manual
from todoku.dns.merging import Merge
from todoku.dns.publisher import Found, Published, Publisher, Replacement
from todoku.dns.records import RecordSet
from todoku.dns.resources import RecordSetResource, Seen
from todoku.dns.signatures import SignaturesHold
from todoku.dns.text import presentation
from todoku.plan.outputs import Outputs, Reference
from todoku.plan.plan import make
from todoku.plan.resource import (
    Action,
    Change,
    ChangeFailed,
    Item,
    LookFailed,
    NeedsPerson,
    NotYet,
    Resource,
)

ZONE = "hoge.example"
MX = RecordSet(ZONE, "MX", ("10 mx.hoge.example",), 300, "mail")
SPF = RecordSet(ZONE, "TXT", ("v=spf1 include:relay.example ~all",), 300, "SPF", Merge.SPF)
DKIM = RecordSet(
    Reference("dkim:hoge.example", "name"), "CNAME", (Reference("dkim:hoge.example", "cname"),), 300, "DKIM",
    Merge.OURS,
)  # fmt: skip


@dataclass
class Shelf(Publisher):
    """A publisher whose zone is what the only name server of a small internet serves."""

    world: Internet = field(default_factory=Internet)
    served: bool = True  # whether what is published reaches the name server
    records: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    applied: list[Replacement] = field(default_factory=list)

    def put(self, name: str, type_: str, *values: str) -> None:
        self.records[name, type_] = values
        self.serve()

    def serve(self) -> None:
        self.world.zones.pop(ZONE, None)
        self.world.zone(
            ZONE,
            {
                (n, t): [presentation(t, v) for v in values]
                for (n, t), values in self.records.items()
                if values
            },
        )

    def look(self, zone: str, name: str, type_: str) -> Found:
        here = {t: values for (n, t), values in self.records.items() if n == name and values}
        return Found(
            tuple(Published(name, type_, value, 300) for value in here.get(type_, ())),
            frozenset(here) - {type_},
        )

    def content(self, zone: str) -> tuple[Published, ...] | None:
        return tuple(
            Published(name, type_, value, 300)
            for (name, type_), values in self.records.items()
            for value in values
        )

    def zone_of(self, name: str) -> str | None:
        return None

    def apply(self, zone: str, replacement: Replacement) -> None:
        self.applied.append(replacement)
        self.records[replacement.name, replacement.type] = replacement.after
        if self.served:
            self.serve()


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    shelf.world.zone("relay.example", {("relay.example", "TXT"): ['"v=spf1 ip4:192.0.2.25 -all"']})
    shelf.serve()
    return shelf


@pytest.fixture
def names(shelf: Shelf) -> Names:
    return Names(shelf, shelf.world.lookups(), Outputs(), (ZONE,), patience=0.2, sleep=lambda _seconds: None)


def look(record: RecordSet, names: Names, *, force: bool = False) -> tuple[RecordSetResource, Seen]:
    resource = RecordSetResource(record, force=force)
    seen = resource.look(names)
    assert isinstance(seen, Seen)
    return resource, seen


def put_right(record: RecordSet, names: Names, *, force: bool = False) -> Change:
    resource, seen = look(record, names, force=force)
    change = resource.differ(seen)
    assert change is not None
    resource.change(change, names)
    assert resource.differ(resource.look(names)) is None
    return change


def test_a_missing_record_is_created_and_then_nothing_differs(names: Names, shelf: Shelf) -> None:
    change = put_right(MX, names)
    assert (change.action, change.detail) == (Action.CREATE, "+ hoge.example MX 10 mx.hoge.example.")
    assert shelf.records[ZONE, "MX"] == ("10 mx.hoge.example",)


def test_spf_is_merged_into_the_record_beside_the_others(names: Names, shelf: Shelf) -> None:
    shelf.put(ZONE, "TXT", "proof=1", "v=spf1 ip4:192.0.2.7 -all")
    change = put_right(SPF, names)
    assert change.action is Action.UPDATE
    assert shelf.records[ZONE, "TXT"] == ("proof=1", "v=spf1 ip4:192.0.2.7 include:relay.example -all")
    assert [record.value for record in shelf.applied[0].remove] == ["v=spf1 ip4:192.0.2.7 -all"]


def test_spf_that_would_need_too_many_look_ups_is_refused_before_anything_changes(
    names: Names, shelf: Shelf
) -> None:
    terms = " ".join(f"exists:%{{i}}.n{number}.example" for number in range(10))
    shelf.put(ZONE, "TXT", f"v=spf1 {terms} -all")
    with pytest.raises(LookFailed, match=r"11 look-ups \(at most 10\)"):
        RecordSetResource(SPF).look(names)
    assert shelf.applied == []


def test_an_spf_record_whose_includes_have_grown_is_told_by_the_check(names: Names, shelf: Shelf) -> None:
    shelf.put(ZONE, "TXT", "v=spf1 include:relay.example include:news.example -all")
    terms = " ".join(f"exists:%{{i}}.n{number}.example" for number in range(9))
    shelf.world.zone(
        "news.example", {("news.example", "TXT"): [f'"v=spf1 {terms[: terms.rindex(" ")]} -all"']}
    )
    row = overview.row(names, SPF)
    assert row.right, row
    shelf.world.zone("news.example", {("news.example", "TXT"): [f'"v=spf1 {terms} -all"']})
    row = overview.row(names, SPF)
    assert (row.state, row.right) == (overview.State.RIGHT, False)
    assert "11 look-ups (at most 10)" in row.remarks[0]
    assert "include:news.example: 10" in row.remarks[0]


def test_terms_of_spf_that_are_there_twice_are_told_and_left(names: Names, shelf: Shelf) -> None:
    there = "v=spf1 include:relay.example ip4:192.0.2.7 ip4:192.0.2.7 -all"
    shelf.put(ZONE, "TXT", there)
    row = overview.row(names, SPF)
    assert row.right  # receivers understand it all the same
    assert row.hints == (
        'the SPF record says "ip4:192.0.2.7" more than once, and only the first counts: remove the others',
    )
    assert RecordSetResource(SPF).differ(RecordSetResource(SPF).look(names)) is None
    shelf.put(ZONE, "TXT", there.replace(" ip4:192.0.2.7 -", " -"))
    assert overview.row(names, SPF).hints == ()


def test_an_mx_that_points_elsewhere_waits_for_a_person(names: Names, shelf: Shelf) -> None:
    shelf.put(ZONE, "MX", "1 aspmx.elsewhere.example")
    with pytest.raises(NotYet, match=r"conflict: .*aspmx\.elsewhere\.example.*--force"):
        RecordSetResource(MX).look(names)
    change = put_right(MX, names, force=True)
    assert "forced" in change.summary


def test_a_record_that_only_we_use_is_corrected_without_force(names: Names, shelf: Shelf) -> None:
    names.outputs.tell("dkim:hoge.example", name=f"sel._domainkey.{ZONE}", cname="Right.Example.")
    shelf.put(f"sel._domainkey.{ZONE}", "CNAME", "wrong.example")
    put_right(DKIM, names)
    assert shelf.records[f"sel._domainkey.{ZONE}", "CNAME"] == ("right.example",)


def test_what_the_cloud_has_not_told_yet_is_known_after_apply(names: Names) -> None:
    resource = RecordSetResource(DKIM)
    change = resource.differ(resource.look(names))
    assert change is not None
    assert "known after apply" in change.summary
    assert resource.id == "dns:dkim:hoge.example/CNAME"
    assert resource.reads == {"dkim:hoge.example"} <= resource.needs
    with pytest.raises(NotYet, match="not known yet"):
        resource.change(change, names)


def test_an_optional_record_that_nothing_refers_to_is_no_difference(names: Names) -> None:
    resource = RecordSetResource(
        RecordSet(Reference("dkim:a", "other_name"), "CNAME", (), 300, "", Merge.OURS, optional=True)
    )
    assert resource.differ(resource.look(names)) is None


def test_published_but_not_visible_is_not_yet_done(names: Names, shelf: Shelf) -> None:
    shelf.served = False
    resource, seen = look(MX, names)
    change = resource.differ(seen)
    assert change is not None
    with pytest.raises(NotYet, match=r"ns0\.hoge\.example does not show it yet"):
        resource.change(change, names)
    with pytest.raises(NotYet, match="is published"):
        resource.look(names)
    shelf.serve()
    assert resource.differ(resource.look(names)) is None


def test_a_zone_that_is_not_delegated_is_named(names: Names, shelf: Shelf) -> None:
    del shelf.world.zones[ZONE]
    shelf.records[ZONE, "MX"] = ("10 mx.hoge.example",)
    with pytest.raises(NotYet, match="delegated to its name servers at the registrar"):
        RecordSetResource(MX).look(names)


def test_signatures_that_do_not_hold_are_told_once_and_stop_nothing(names: Names, shelf: Shelf) -> None:
    resources = (RecordSetResource(MX), RecordSetResource(SPF))
    assert SignaturesHold(resources).look(names) == {ZONE}
    shelf.world.bogus.add(ZONE)
    put_right(MX, names)
    with pytest.raises(NeedsPerson) as told:
        SignaturesHold(resources).look(names)
    assert str(told.value).count("its signatures do not hold") == 1


def test_a_cname_in_the_way_is_a_problem_that_force_does_not_solve(names: Names, shelf: Shelf) -> None:
    shelf.put(f"mx.{ZONE}", "CNAME", "elsewhere.example")
    with pytest.raises(LookFailed, match="remove the CNAME"):
        RecordSetResource(RecordSet(f"mx.{ZONE}", "A", ("192.0.2.1",), 300, ""), force=True).look(names)


def test_by_hand_it_says_exactly_what_to_enter_and_waits(shelf: Shelf) -> None:
    shelf.put(ZONE, "TXT", "proof=1", "v=spf1 mx -all")
    lookups = shelf.world.lookups()
    names = Names(Manual(lookups), lookups, Outputs(), (ZONE,), patience=0.1)
    resource, seen = look(SPF, names)
    change = resource.differ(seen)
    assert change is not None
    with pytest.raises(NotYet) as told:
        resource.change(change, names)
    lines = str(told.value).splitlines()
    assert "  replace or remove: TXT @  v=spf1 mx -all" in lines
    assert "  value  v=spf1 mx include:relay.example -all" in lines
    assert any('"v=spf1 mx include:relay.example -all"' in line for line in lines)
    assert not any("proof" in line for line in lines)


def test_the_size_of_a_change_is_judged_over_the_zone() -> None:
    assert refusal(ZONE, 9, 9) is None
    assert refusal(ZONE, None, 50) is None
    assert refusal(ZONE, 10, 3) is None
    assert "4 of the 10 record sets" in (refusal(ZONE, 10, 4) or "")


def test_much_of_a_zone_changing_is_refused_unless_forced(names: Names, shelf: Shelf) -> None:
    resources = []
    for number in range(10):
        shelf.put(f"n{number}.{ZONE}", "CNAME", "old.example")
        record = RecordSet(f"n{number}.{ZONE}", "CNAME", ("new.example",), 300, "", Merge.OURS)
        resources.append(RecordSetResource(record))
    with pytest.raises(LookFailed, match=r"10 of the 10 record sets of hoge\.example.*--force"):
        FewChanges(tuple(resources)).look(names)
    assert FewChanges(tuple(resources), force=True).look(names) == {}
    assert FewChanges(tuple(resources[:3])).look(names) == {}


class Slow(Resource[Outputs, None]):
    """The cloud: it takes a moment until it says what the DKIM record has to be."""

    id = "dkim:hoge.example"
    why = "a test wants it"

    def look(self, client: Outputs) -> None:
        time.sleep(0.2)
        client.tell(self.id, **{f"name{n}": f"n{n}.{ZONE}" for n in range(10)}, cname="new.example")

    def differ(self, seen: None) -> Change | None:
        return None

    def change(self, change: Change, client: Outputs) -> None:
        raise AssertionError


def test_the_plan_counts_what_the_cloud_has_to_tell_first(names: Names, shelf: Shelf) -> None:
    resources = []
    for number in range(10):
        shelf.put(f"n{number}.{ZONE}", "CNAME", "old.example")
        name, target = Reference(Slow.id, f"name{number}"), Reference(Slow.id, "cname")
        resources.append(RecordSetResource(RecordSet(name, "CNAME", (target,), 300, "", Merge.OURS)))
    items = [Item(FewChanges(tuple(resources)), names), Item(Slow(), names.outputs)]
    (problem,) = make(items).problems
    assert "10 of the 10 record sets" in problem.problem


def test_a_publisher_that_refuses_is_a_failed_change(
    names: Names, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from todoku.dns.publisher import PublisherFailed

    def refuse(zone: str, replacement: Replacement) -> None:
        raise PublisherFailed("no permission")

    resource, seen = look(MX, names)
    change = resource.differ(seen)
    assert change is not None
    monkeypatch.setattr(shelf, "apply", refuse)
    with pytest.raises(ChangeFailed, match="no permission"):
        resource.change(change, names)
