# What the configuration has to look like is known only once the package is there: stages are computed one
# after the other, and still there is one plan, one outcome and one list of what was not done.

import threading

import pytest
from plan_resources import Daemon, TextFile, history, items
from test_plan_apply import Broken

from todoku.plan.events import NotTried, Started
from todoku.plan.journal import Journal
from todoku.plan.order import PlanError
from todoku.plan.resource import LookFailed
from todoku.plan.stages import apply_stages, make_stages


def package_then_configuration(folder):
    """The configuration's text is the version that is installed, or the one that would be."""

    def configuration():
        installed = folder / "package"
        version = installed.read_text() if installed.exists() else "expected\n"
        return items(
            folder,
            TextFile("main.cf", version, after={"file:package"}),
            Daemon("mail", {"file:main.cf", "file:package"}),
        )

    return [lambda: items(folder, TextFile("package", "3.7\n")), configuration]


def run(stages, **options):
    events = []
    outcome = apply_stages(stages, make_stages(stages, options.get("journal")), events.append, **options)
    return outcome, events


def test_one_plan_shows_all_stages_with_what_is_known_now(tmp_path):
    plan = make_stages(package_then_configuration(tmp_path))

    assert [step.id for step in plan.changes] == ["file:package", "file:main.cf", "service:mail"]


def test_a_stage_is_computed_after_the_one_before_it_was_applied(tmp_path):
    stages = package_then_configuration(tmp_path)

    outcome, _ = run(stages)

    assert outcome.done == ("file:package", "file:main.cf", "service:mail")
    assert (tmp_path / "main.cf").read_text() == "3.7\n"
    assert make_stages(stages).empty
    assert run(stages)[0].done == ()


def test_a_watcher_in_a_later_stage_follows_a_change_in_an_earlier_one(tmp_path):
    (tmp_path / "main.cf").write_text("3.7\n")
    (tmp_path / "mail.running").touch()

    outcome, _ = run(package_then_configuration(tmp_path))

    assert outcome.done == ("file:package", "service:mail")


def test_when_a_stage_fails_the_later_ones_are_told_as_not_tried(tmp_path):
    stages = [lambda: items(tmp_path, Broken("package")), package_then_configuration(tmp_path)[1]]

    outcome, events = run(stages)

    assert [one.id for one in outcome.failed] == ["file:package"]
    assert outcome.not_tried == (
        NotTried("file:main.cf", "stopped when file:package failed"),
        NotTried("service:mail", "stopped when file:package failed"),
    )
    assert set(outcome.not_tried) <= set(events)
    assert history(tmp_path) == []


def test_when_a_stage_cannot_be_computed_that_is_a_failure_with_its_reason(tmp_path):
    def second():
        if (tmp_path / "package").exists():
            raise LookFailed("the package database cannot be read: run `dpkg --audit`")
        return items(tmp_path, TextFile("main.cf"))

    outcome, _ = run([lambda: items(tmp_path, TextFile("package")), second])

    assert outcome.done == ("file:package",)
    assert "could not be computed: the package database cannot be read" in outcome.failed[0].reason
    assert [one.id for one in outcome.not_tried] == ["file:main.cf"]


def test_a_mistake_in_a_later_stage_is_raised_after_the_outcome(tmp_path):
    def second():
        if (tmp_path / "package").exists():
            return items(tmp_path, TextFile("main.cf", after={"file:nowhere"}))
        return []

    outcome, _ = run([lambda: items(tmp_path, TextFile("package")), second])

    assert not outcome.ok
    with pytest.raises(PlanError, match=r"file:main.cf needs file:nowhere"):
        outcome.raise_bug()


def test_stopped_in_one_stage_the_next_one_is_not_started(tmp_path):
    stages = package_then_configuration(tmp_path)
    stop = threading.Event()

    def report(event):
        if isinstance(event, Started):
            stop.set()

    outcome = apply_stages(stages, make_stages(stages), report, stop=stop)

    assert outcome.done == ("file:package",)
    assert {one.because for one in outcome.not_tried} == {"interrupted", "needs file:main.cf"}
    assert outcome.stopped


def test_the_journal_is_kept_until_everything_has_succeeded(tmp_path):
    path = tmp_path / "journal"
    failing = [package_then_configuration(tmp_path)[0], lambda: items(tmp_path, Broken("main.cf"))]

    run(failing, journal=Journal(path))
    assert path.exists()

    run(package_then_configuration(tmp_path), journal=Journal(path))
    assert not path.exists()
