# A record that is removed by mistake takes a domain's signature away; one that stays does no harm. So of the records
# that old DKIM keys leave behind only those go that can be nothing else.

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from internet import Internet

from todoku.dns.client import Names
from todoku.dns.guard import FewChanges
from todoku.dns.publisher import Found, Published, Publisher, Replacement
from todoku.dns.retired import RetiredKeys
from todoku.plan.outputs import Outputs
from todoku.plan.resource import Action, LookFailed

ZONE = "hoge.example"
SIGNS = "todoku-nrt1-202611-2"
KEYS = RetiredKeys(ZONE, "ap-tokyo-1")


@dataclass
class Listed(Publisher):
    """A zone that can be listed, record by record."""

    records: list[Published] = field(default_factory=list)

    def put(self, selector: str, type_: str, value: str = "") -> None:
        target = f"{selector}.{ZONE}.dkim.nrt1.oracleemaildelivery.com"
        self.records.append(Published(f"{selector}._domainkey.{ZONE}", type_, value or target, 300))

    def look(self, zone: str, name: str, type_: str) -> Found:
        raise AssertionError

    def content(self, zone: str) -> tuple[Published, ...] | None:
        return tuple(self.records)

    def zone_of(self, name: str) -> str | None:
        return ZONE

    def apply(self, zone: str, replacement: Replacement) -> None:
        assert replacement.after == ()
        self.records = [record for record in self.records if record not in replacement.before]


@pytest.fixture
def listed() -> Listed:
    listed = Listed()
    listed.put(SIGNS, "CNAME")
    return listed


@pytest.fixture
def world() -> Internet:
    world = Internet()
    published = f"{SIGNS}.{ZONE}.dkim.nrt1.oracleemaildelivery.com"
    world.zone("oracleemaildelivery.com", {(published, "TXT"): ['"v=DKIM1; p=A"']})
    return world


def names(listed: Listed, world: Internet, *others: str, state: str = "ACTIVE") -> Names:
    outputs = Outputs()
    outputs.tell(f"dkim:{ZONE}", selector=SIGNS, state=state, selectors=" ".join([SIGNS, *others]))
    return Names(listed, world.lookups(), outputs, (ZONE,))


def left(listed: Listed, client: Names) -> list[str]:
    return [left.records[0].name.partition(".")[0] for left in KEYS.look(client)]


def test_the_record_of_a_key_that_is_no_more_is_shown_and_removed(listed: Listed, world: Internet) -> None:
    listed.put("todoku-nrt1-202605", "CNAME")
    client = names(listed, world)
    change = KEYS.differ(KEYS.look(client))
    assert change is not None
    assert change.action is Action.DELETE
    assert change.detail == (
        "- todoku-nrt1-202605._domainkey.hoge.example CNAME "
        "todoku-nrt1-202605.hoge.example.dkim.nrt1.oracleemaildelivery.com."
    )
    KEYS.change(change, client)
    assert [record.name.partition(".")[0] for record in listed.records] == [SIGNS]
    assert KEYS.differ(KEYS.look(client)) is None


@pytest.mark.parametrize(
    ("selector", "type_", "value"),
    [
        ("todoku-nrt1-202612", "CNAME", ""),  # newer than the one that signs: somebody has just made it
        ("todoku-nrt1-202611-3", "CNAME", ""),
        ("todoku-fra1-202605", "CNAME", ""),  # another region's: another tenancy may send from there
        ("selector1", "CNAME", ""),  # somebody else's
        ("mytodoku-nrt1-202605", "CNAME", ""),
        ("todoku-nrt1-202605-old", "CNAME", ""),
        ("todoku-nrt1-202605", "CNAME", "keys.elsewhere.example"),  # our name, but it leads elsewhere
        ("todoku-nrt1-202605", "CNAME", "todoku-nrt1-202605.fuga.example.dkim.nrt1.oracleemaildelivery.com"),
        ("todoku-nrt1-202605", "TXT", "no key"),
        ("todoku-nrt1-202605", "A", "192.0.2.1"),
    ],
)
def test_what_may_be_anything_else_stays(
    listed: Listed, world: Internet, selector: str, type_: str, value: str
) -> None:
    listed.put(selector, type_, value)
    assert left(listed, names(listed, world)) == []


def test_a_name_that_has_something_else_besides_stays(listed: Listed, world: Internet) -> None:
    listed.put("todoku-nrt1-202605", "TXT", "v=DKIM1; p=A")
    assert left(listed, names(listed, world)) == ["todoku-nrt1-202605"]
    listed.put("todoku-nrt1-202605", "TXT", "a note of somebody's")
    assert left(listed, names(listed, world)) == []


def test_a_key_that_the_cloud_still_has_keeps_its_record(listed: Listed, world: Internet) -> None:
    listed.put("todoku-nrt1-202605", "CNAME")
    assert left(listed, names(listed, world, "todoku-nrt1-202605")) == []


def test_nothing_goes_while_it_is_not_certain_that_a_key_signs(listed: Listed, world: Internet) -> None:
    listed.put("todoku-nrt1-202605", "CNAME")
    assert left(listed, names(listed, world, state="NEEDS_ATTENTION")) == []
    assert left(listed, Names(listed, world.lookups(), Outputs(), (ZONE,))) == []


def test_within_its_month_a_selector_may_come_back_so_its_target_has_to_be_gone(
    listed: Listed, world: Internet
) -> None:
    again = "todoku-nrt1-202611"
    listed.put(again, "CNAME")
    assert left(listed, names(listed, world)) == [again]  # Oracle publishes no key there any more
    world.zone("nrt1.oracleemaildelivery.com", {(listed.records[-1].value, "TXT"): ['"v=DKIM1; p=B"']})
    assert left(listed, names(listed, world)) == []
    silent = Internet(silent={"192.0.2.1"})  # nor when nobody can say
    assert left(listed, names(listed, silent)) == []


def test_a_zone_that_cannot_be_listed_is_left_alone(
    listed: Listed, world: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "content", lambda _zone: None)
    assert left(listed, names(listed, world)) == []


def test_the_guard_counts_what_would_be_removed(listed: Listed, world: Internet) -> None:
    for month in range(1, 11):
        listed.put(f"todoku-nrt1-2025{month:02}", "CNAME")
    with pytest.raises(LookFailed, match="10 of the 11 record sets"):
        FewChanges((), retired=(KEYS,)).look(names(listed, world))
