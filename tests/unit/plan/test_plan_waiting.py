# A DKIM key can need an hour to become active although everything is right: what takes its time elsewhere is no
# failure, and does not hold up what has nothing to do with it.

from __future__ import annotations

import threading
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from plan_resources import TextFile

from todoku.plan import plan as planning
from todoku.plan.apply import apply
from todoku.plan.events import NotTried, Waits
from todoku.plan.outputs import Outputs, Reference
from todoku.plan.resource import Action, Change, Item, NeedsPerson, NotYet, Resource


@dataclass(frozen=True)
class Slow(Resource[Path, "bool"]):
    """Exists at once, is ready only when the file `ready` is there."""

    after: Set[str] = field(default_factory=frozenset)

    @property
    def id(self) -> str:
        return "slow:key"

    @property
    def why(self) -> str:
        return "a test wants it"

    def look(self, client: Path) -> bool:
        begun = (client / "begun").exists()
        if begun and not (client / "ready").exists():
            raise NotYet("the key is being checked elsewhere, which can take an hour")
        return begun

    def differ(self, seen: bool) -> Change | None:
        return None if seen else Change(Action.CREATE, "make the key")

    def change(self, _change: Change, client: Path) -> None:
        (client / "begun").touch()


def _items(folder: Path) -> list[Item]:
    resources = [Slow(), TextFile("needs-it", after=frozenset({"slow:key"})), TextFile("independent")]
    return [Item(resource, folder) for resource in resources]


def test_everything_else_goes_on_and_it_is_no_failure(tmp_path: Path) -> None:
    outcome = apply(_items(tmp_path), lambda _event: None)
    assert outcome.ok
    assert (tmp_path / "independent").exists()
    assert not (tmp_path / "needs-it").exists()
    assert {one.id for one in outcome.waits} == {"slow:key", "file:needs-it"}
    assert "slow:key" in outcome.done  # it was begun in this run
    assert "file:needs-it" not in outcome.done


def test_the_next_run_waits_too_and_begins_nothing_twice(tmp_path: Path) -> None:
    apply(_items(tmp_path), lambda _event: None)
    outcome = apply(_items(tmp_path), lambda _event: None)
    assert outcome.ok
    assert outcome.done == ()
    assert {one.id for one in outcome.waits} == {"slow:key", "file:needs-it"}
    assert "an hour" in outcome.waits[0].reason


def test_once_ready_the_rest_follows(tmp_path: Path) -> None:
    apply(_items(tmp_path), lambda _event: None)
    (tmp_path / "ready").touch()
    outcome = apply(_items(tmp_path), lambda _event: None)
    assert outcome.done == ("file:needs-it",)
    assert outcome.waits == ()


@dataclass(frozen=True)
class Asked(Slow):
    """As Slow, but a person has to make it ready."""

    @property
    def id(self) -> str:
        return "asked:person"

    def look(self, client: Path) -> bool:
        raise NeedsPerson(f"somebody has to make {client}")


def test_what_needs_something_that_a_person_has_to_do_waits_for_that_person_too(tmp_path: Path) -> None:
    both = TextFile("needs-both", after=frozenset({"slow:key", "asked:person"}))
    resources = [Slow(), Asked(), both, TextFile("needs-time", after=frozenset({"slow:key"}))]
    outcome = apply([Item(resource, tmp_path) for resource in resources], lambda _event: None)
    assert {one.id: one.for_person for one in outcome.waits} == {
        "slow:key": False,
        "asked:person": True,
        "file:needs-both": True,
        "file:needs-time": False,
    }
    reason = next(one.reason for one in outcome.waits if one.id == "file:needs-both")
    assert reason == "needs asked:person, which is not ready"


def test_what_is_in_place_already_is_unchanged_although_its_need_waits(tmp_path: Path) -> None:
    (tmp_path / "needs-it").write_text("wanted\n")
    outcome = apply(_items(tmp_path), lambda _event: None)
    assert "file:needs-it" in outcome.unchanged


def test_the_plan_shows_what_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "begun").touch()
    plan = planning.make(_items(tmp_path))
    assert [step.id for step in plan.waiting] == ["slow:key", "file:needs-it"]
    assert [step.id for step in plan.changes] == ["file:independent"]
    assert not plan.problems


def test_events_tell_of_waiting(tmp_path: Path) -> None:
    events: list[object] = []
    apply(_items(tmp_path), events.append)
    waits = [event for event in events if isinstance(event, Waits)]
    assert {event.id: event.change is not None for event in waits} == {
        "slow:key": True,
        "file:needs-it": False,
    }
    assert not any(isinstance(event, NotTried) for event in events)


@dataclass(frozen=True)
class Teller(Resource[Outputs, "None"]):
    """Takes its time to learn a value, and tells it."""

    @property
    def id(self) -> str:
        return "teller:one"

    @property
    def why(self) -> str:
        return "a test wants it"

    def look(self, client: Outputs) -> None:
        threading.Event().wait(0.2)
        client.tell(self.id, cname="target.example")

    def differ(self, seen: None) -> Change | None:
        return None

    def change(self, change: Change, client: Outputs) -> None:
        raise AssertionError


@dataclass(frozen=True)
class Listener(Resource[Outputs, "str | None"]):
    """Wants to know what Teller tells."""

    @property
    def id(self) -> str:
        return "listener:one"

    @property
    def why(self) -> str:
        return "a test wants it"

    @property
    def needs(self) -> Set[str]:
        return frozenset({"teller:one"})

    @property
    def reads(self) -> Set[str]:
        return self.needs

    def look(self, client: Outputs) -> str | None:
        return client.known(Reference("teller:one", "cname"))

    def differ(self, seen: str | None) -> Change | None:
        return None if seen == "target.example" else Change(Action.UPDATE, f"saw {seen}")

    def change(self, change: Change, client: Outputs) -> None:
        raise AssertionError


def test_who_reads_is_looked_up_after_who_tells() -> None:
    outputs = Outputs()
    assert planning.make([Item(Listener(), outputs), Item(Teller(), outputs)]).empty


@dataclass(frozen=True)
class Judge(Listener):
    """Only judges what Teller tells, and can go before everything that Teller needs."""

    at: str = "teller:one"

    @property
    def needs(self) -> Set[str]:
        return frozenset()

    @property
    def reads(self) -> Set[str]:
        return frozenset({self.at})


def test_who_only_judges_may_come_first_and_is_looked_up_after_who_tells_all_the_same() -> None:
    outputs = Outputs()
    planned = planning.make([Item(Judge(), outputs), Item(Teller(), outputs)])
    assert [step.id for step in planned.steps] == ["listener:one", "teller:one"]
    assert planned.empty


@pytest.mark.parametrize(("at", "said"), [("nobody:one", "nobody:one"), ("listener:one", "circle")])
def test_who_reads_what_cannot_be_read_makes_no_plan(at: str, said: str) -> None:
    with pytest.raises(planning.PlanError, match=said):
        planning.make([Item(Judge(at), Outputs()), Item(Teller(), Outputs())])
