# A plan that is wrong is worse than none: what it shows must be what apply will do, and what it cannot know
# it must say.

import errno
import threading
from dataclasses import dataclass

import pytest
from plan_resources import Daemon, Silent, TextFile, history, items

from todoku.plan.journal import Journal
from todoku.plan.plan import PlanError, make
from todoku.plan.resource import Action


def changes(plan):
    return {step.id: step.change.summary for step in plan.changes}


def test_only_what_differs_would_change_and_nothing_is_changed_yet(tmp_path):
    (tmp_path / "same").write_text("wanted\n")
    (tmp_path / "other").write_text("found\n")

    plan = make(items(tmp_path, TextFile("same"), TextFile("other"), TextFile("new", after={"file:same"})))

    assert [(step.id, step.change and step.change.action) for step in plan.steps] == [
        ("file:same", None),
        ("file:other", Action.UPDATE),
        ("file:new", Action.CREATE),
    ]
    assert plan.steps[2].needs == ("file:same",)
    assert plan.steps[0].why == "a test wants it"
    assert not plan.empty
    assert history(tmp_path) == []


def test_a_plan_without_differences_is_empty(tmp_path):
    (tmp_path / "same").write_text("wanted\n")

    assert make(items(tmp_path, TextFile("same"))).empty


def test_a_watcher_follows_what_it_watches_and_is_followed_in_turn(tmp_path):
    (tmp_path / "mail.running").touch()
    (tmp_path / "monitor.running").touch()
    (tmp_path / "b").write_text("wanted\n")

    plan = make(
        items(
            tmp_path,
            Daemon("monitor", {"service:mail"}),
            Daemon("mail", {"file:a", "file:b"}),
            TextFile("a"),
            TextFile("b"),
        )
    )

    assert changes(plan) == {
        "file:a": "create a",
        "service:mail": "restart mail: file:a",
        "service:monitor": "restart monitor: service:mail",
    }


def test_a_watcher_that_differs_itself_makes_its_own_change(tmp_path):
    plan = make(items(tmp_path, TextFile("a"), Daemon("mail", {"file:a"})))

    assert changes(plan)["service:mail"] == "start mail"


def test_a_watcher_stays_as_it_is_when_nothing_that_it_watches_changes(tmp_path):
    (tmp_path / "mail.running").touch()
    (tmp_path / "a").write_text("wanted\n")

    plan = make(items(tmp_path, TextFile("a"), TextFile("unrelated"), Daemon("mail", {"file:a"})))

    assert "service:mail" not in changes(plan)


def test_a_restart_that_an_earlier_run_still_owes_is_planned(tmp_path):
    (tmp_path / "mail.running").touch()
    (tmp_path / "a").write_text("wanted\n")
    journal = Journal()
    journal.changed("file:a")

    plan = make(items(tmp_path, TextFile("a"), Daemon("mail", {"file:a"})), journal)

    assert changes(plan) == {"service:mail": "restart mail: file:a"}


def test_what_cannot_be_looked_up_is_a_problem_and_the_plan_is_not_empty(tmp_path):
    plan = make(items(tmp_path, Silent("mail"), TextFile("a")))

    assert [(step.id, step.problem) for step in plan.problems] == [
        ("service:mail", "cannot ask the manager about mail: it is not installed")
    ]
    assert changes(plan) == {"file:a": "create a"}
    (tmp_path / "a").write_text("wanted\n")
    assert not make(items(tmp_path, Silent("mail"), TextFile("a"))).empty


def test_what_cannot_be_looked_up_before_its_needs_are_there_is_known_after_apply(tmp_path):
    plan = make(
        items(
            tmp_path,
            TextFile("manager"),
            Silent("mail", {"file:manager"}),
            Silent("monitor", {"service:mail"}),
        )
    )

    assert plan.problems == ()
    assert changes(plan) == {
        "file:manager": "create manager",
        "service:mail": "known after apply",
        "service:monitor": "known after apply",
    }
    assert [step.known for step in plan.steps] == [True, False, False]


def test_an_unreadable_file_is_a_problem_with_a_sentence(tmp_path):
    @dataclass(frozen=True)
    class Forbidden(TextFile):
        def look(self, _client):
            raise PermissionError(errno.EACCES, "Permission denied", "/etc/shadow")

    (step,) = make(items(tmp_path, Forbidden("shadow"))).problems

    assert step.problem.startswith("no permission (/etc/shadow): run it as root")


def test_an_error_of_our_own_is_not_hidden(tmp_path):
    @dataclass(frozen=True)
    class Wrong(TextFile):
        def look(self, _client):
            raise KeyError("wrong")

    with pytest.raises(KeyError):
        make(items(tmp_path, Wrong("wrong"), TextFile("a")))


def test_look_ups_run_at_the_same_time(tmp_path):
    meet = threading.Barrier(2, timeout=10)

    @dataclass(frozen=True)
    class Meeting(TextFile):
        def look(self, client):
            meet.wait()
            return super().look(client)

    # Looked at one after the other, the barrier breaks. Needs do not matter: nothing is changed.
    plan = make(items(tmp_path, Meeting("a"), Meeting("b", after={"file:a"})))

    assert len(plan.changes) == 2


def test_resources_that_cannot_be_ordered_make_no_plan(tmp_path):
    with pytest.raises(PlanError, match="circle"):
        make(items(tmp_path, TextFile("a", after={"file:b"}), TextFile("b", after={"file:a"})))
