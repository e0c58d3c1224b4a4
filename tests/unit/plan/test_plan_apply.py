# A failed apply used to be the worst of all states: half done, nobody knew which half. Here it stops cleanly,
# says what was done and what was not, and running it again continues.

import errno
import subprocess
import threading
import time
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from plan_resources import Daemon, TextFile, history, items
from test_plan_order import graphs

from todoku.plan.apply import apply
from todoku.plan.events import Done, Failed, NotTried, Started, Unchanged, Waiting
from todoku.plan.journal import Journal
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed


@dataclass(frozen=True)
class Broken(TextFile):
    """Fails with `error` when it is changed."""

    error: BaseException | None = None

    def change(self, _change, _client):
        raise self.error or ChangeFailed("the change was refused: do something else")


def run(some, **options):
    events = []
    outcome = apply(some, events.append, **options)
    return outcome, events


def test_everything_is_changed_after_its_needs_and_a_second_apply_changes_nothing(tmp_path):
    some = items(tmp_path, Daemon("mail", {"file:a"}), TextFile("a", after={"file:b"}), TextFile("b"))

    outcome, events = run(some)

    assert outcome.ok
    assert history(tmp_path) == ["file:b", "file:a", "service:mail"]
    assert [type(event) for event in events] == [Started, Done] * 3
    assert all(event.seconds >= 0 for event in events if isinstance(event, Done))

    again, events = run(some)
    assert again.ok
    assert again.done == ()
    assert set(again.unchanged) == {"file:a", "file:b", "service:mail"}
    assert {type(event) for event in events} == {Unchanged}
    assert len(history(tmp_path)) == 3


def test_independent_resources_are_changed_at_the_same_time(tmp_path):
    meet = threading.Barrier(2, timeout=10)

    @dataclass(frozen=True)
    class Meeting(TextFile):
        def change(self, change, client):
            meet.wait()  # breaks, and fails the step, if the other one is not running
            super().change(change, client)

    outcome, _ = run(items(tmp_path, Meeting("a"), Meeting("b")))

    assert outcome.failed == ()


def test_no_more_than_eight_resources_are_worked_on_at_once(tmp_path):
    lock, now, most = threading.Lock(), [0], [0]

    @dataclass(frozen=True)
    class Counting(TextFile):
        def change(self, change, client):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            super().change(change, client)
            with lock:
                now[0] -= 1

    outcome, _ = run(items(tmp_path, *(Counting(str(n)) for n in range(30))))

    assert outcome.ok
    assert most[0] == 8


def test_a_watcher_follows_what_changed_in_this_run(tmp_path):
    some = items(tmp_path, TextFile("a", "first\n"), Daemon("mail", {"file:a"}))
    journal = Journal()
    run(some, journal=journal)

    outcome, events = run(
        items(tmp_path, TextFile("a", "second\n"), Daemon("mail", {"file:a"})), journal=journal
    )

    assert outcome.done == ("file:a", "service:mail")
    assert [event.change.summary for event in events if isinstance(event, Started)] == [
        "replace a",
        "restart mail: file:a",
    ]
    assert (
        run(items(tmp_path, TextFile("a", "second\n"), Daemon("mail", {"file:a"})), journal=journal)[0].done
        == ()
    )


def test_at_a_failure_running_steps_end_and_nothing_new_starts(tmp_path):
    slow_runs, failed = threading.Event(), threading.Event()

    @dataclass(frozen=True)
    class Slow(TextFile):
        def change(self, change, client):
            slow_runs.set()
            assert failed.wait(10)
            super().change(change, client)

    @dataclass(frozen=True)
    class BrokenMeanwhile(Broken):
        def change(self, change, client):
            assert slow_runs.wait(10)
            super().change(change, client)

    def report(event):
        events.append(event)
        if isinstance(event, Failed):
            failed.set()

    events = []
    some = items(
        tmp_path,
        TextFile("first"),
        Slow("slow", after={"file:first"}),
        BrokenMeanwhile("broken", after={"file:first"}),
        TextFile("follows-broken", after={"file:broken"}),
        TextFile("follows-slow", after={"file:slow"}),
    )
    outcome = apply(some, report)

    assert outcome.done == ("file:first", "file:slow")
    assert [(one.id, one.reason) for one in outcome.failed] == [
        ("file:broken", "the change was refused: do something else")
    ]
    assert outcome.not_tried == (
        NotTried("file:follows-broken", "needs file:broken"),
        NotTried("file:follows-slow", "stopped when file:broken failed"),
    )
    assert not outcome.ok
    assert set(outcome.not_tried) <= set(events)
    assert history(tmp_path) == ["file:first", "file:slow"]


def test_after_a_failure_a_resource_that_was_only_looked_at_is_not_changed_any_more(tmp_path):
    failed = threading.Event()

    @dataclass(frozen=True)
    class SlowToLookAt(TextFile):
        def look(self, client):
            assert failed.wait(10)
            return super().look(client)

    outcome = apply(
        items(tmp_path, SlowToLookAt("slow"), Broken("broken")),
        lambda event: failed.set() if isinstance(event, Failed) else None,
    )

    assert outcome.not_tried == (NotTried("file:slow", "stopped when another one failed"),)
    assert history(tmp_path) == []


def test_apply_continues_where_it_failed(tmp_path):
    run(items(tmp_path, TextFile("a"), Broken("b", after={"file:a"}), TextFile("c", after={"file:b"})))

    outcome, _ = run(
        items(tmp_path, TextFile("a"), TextFile("b", after={"file:a"}), TextFile("c", after={"file:b"}))
    )

    assert outcome.ok
    assert outcome.unchanged == ("file:a",)
    assert outcome.done == ("file:b", "file:c")


def test_a_restart_is_not_lost_when_something_else_failed_before_it(tmp_path):
    (tmp_path / "mail.running").touch()
    journal = Journal(tmp_path / "journal")
    mail = Daemon("mail", {"file:a", "file:b"})
    run(items(tmp_path, TextFile("a"), Broken("b", after={"file:a"}), mail), journal=journal)
    assert history(tmp_path) == ["file:a"]
    (tmp_path / "b").write_text("wanted\n")  # somebody has put it right by hand

    outcome, _ = run(
        items(tmp_path, TextFile("a"), TextFile("b"), mail), journal=Journal(tmp_path / "journal")
    )

    assert outcome.done == ("service:mail",)


def test_a_change_without_effect_is_a_failure(tmp_path):
    @dataclass(frozen=True)
    class Futile(TextFile):
        def change(self, _change, _client):
            pass

    outcome, _ = run(items(tmp_path, Futile("a")))

    assert outcome.failed[0].reason == "did not take effect: it was changed, but still to do is: create a"


def test_a_look_up_that_fails_is_a_failure_of_that_resource(tmp_path):
    @dataclass(frozen=True)
    class Hidden(TextFile):
        def look(self, _client):
            raise LookFailed("the cloud does not answer: try again")

    outcome, _ = run(items(tmp_path, Hidden("a")))

    assert outcome.failed[0].reason == "the cloud does not answer: try again"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/etc/postfix/main.cf"),
            "the disk is full (/etc/postfix/main.cf): make room (`df -h` shows where), then try again",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/etc/mailname"),
            "the file system is read-only (/etc/mailname): mount it for writing, then try again",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/etc/x", None, "/etc/y"),
            "no permission (/etc/x -> /etc/y): run it as root (sudo), or look for what protects it",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "postmap"),
            "there is no such file or program (postmap)",
        ),
        (
            OSError(errno.EBUSY, "Device or resource busy", "/etc/hosts"),
            "Device or resource busy (/etc/hosts)",
        ),
        (subprocess.TimeoutExpired(["apt-get", "install"], 600), "apt-get did not end within 600 s"),
        (subprocess.CalledProcessError(75, ["postmap", "lmdb:x"]), "postmap failed with code 75"),
    ],
)
def test_troubles_of_the_machine_are_told_in_a_sentence(tmp_path, error, sentence):
    outcome, _ = run(items(tmp_path, Broken("a", error=error)))

    assert outcome.failed[0].reason == sentence
    outcome.raise_bug()  # it is none of ours


def test_an_error_of_our_own_is_raised_after_the_outcome_was_told(tmp_path):
    outcome, events = run(
        items(tmp_path, Broken("a", error=KeyError("secret")), TextFile("b", after={"file:a"}))
    )

    assert outcome.failed[0].reason == "an error in the program itself (KeyError); please report it"
    assert isinstance(events[-1], NotTried)
    with pytest.raises(KeyError):
        outcome.raise_bug()


def test_asked_to_stop_the_running_steps_end_and_the_rest_is_not_tried(tmp_path):
    stop = threading.Event()

    def report(event):
        if isinstance(event, Started):
            stop.set()

    outcome = apply(items(tmp_path, TextFile("a"), TextFile("b", after={"file:a"})), report, stop=stop)

    assert outcome.done == ("file:a",)
    assert outcome.not_tried == (NotTried("file:b", "interrupted"),)
    assert outcome.stopped
    assert not outcome.ok


def test_interrupted_at_once_it_tells_what_was_still_running(tmp_path):
    go_on = threading.Event()

    @dataclass(frozen=True)
    class Endless(TextFile):
        def change(self, _change, _client):
            go_on.wait(60)

    def report(event):
        if isinstance(event, Started):
            raise KeyboardInterrupt

    began = time.monotonic()
    try:
        outcome = apply(items(tmp_path, Endless("a"), TextFile("b", after={"file:a"})), report)
        assert time.monotonic() - began < 50  # it was not waited for
    finally:
        go_on.set()

    assert outcome.abandoned
    assert outcome.failed[0].id == "file:a"
    assert "may be half done" in outcome.failed[0].reason
    assert [one.id for one in outcome.not_tried] == ["file:b"]


def test_when_nobody_can_be_told_any_more_it_stops_after_the_running_steps(tmp_path):
    told = threading.Event()

    @dataclass(frozen=True)
    class SlowToLookAt(TextFile):
        def look(self, client):
            assert told.wait(60)
            time.sleep(0.2)
            return super().look(client)

    def report(event):
        if isinstance(event, Done):
            told.set()
            raise BrokenPipeError

    some = items(tmp_path, TextFile("a"), SlowToLookAt("slow"), TextFile("b", after={"file:a"}))
    with pytest.raises(BrokenPipeError):
        apply(some, report)

    assert history(tmp_path) == ["file:a"]


def test_a_long_step_is_told_about_while_it_runs(tmp_path):
    heard = threading.Event()

    @dataclass(frozen=True)
    class Long(TextFile):
        def change(self, change, client):
            assert heard.wait(10)
            super().change(change, client)

    def report(event):
        events.append(event)
        if isinstance(event, Waiting):
            heard.set()

    events = []
    apply(items(tmp_path, Long("a")), report, remind=0.05)

    (name, seconds), *_ = next(event for event in events if isinstance(event, Waiting)).running
    assert name == "file:a"
    assert seconds >= 0.05


def test_events_are_reported_in_the_calling_thread_only(tmp_path):
    threads = set()

    apply(
        items(tmp_path, *(TextFile(str(n)) for n in range(20))),
        lambda _: threads.add(threading.current_thread()),
    )

    assert threads == {threading.current_thread()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs())
def test_in_any_graph_each_resource_is_changed_exactly_once_and_after_its_needs(files):
    lock, there, order = threading.Lock(), set(), []

    class Memory(TextFile):
        def look(self, _client):
            with lock:
                return self.text if self.id in there else None

        def change(self, _change, _client):
            with lock:
                assert self.needs <= there
                there.add(self.id)
                order.append(self.id)

    some = items(None, *(Memory(one.name, after=one.after) for one in files))
    outcome, _ = run(some)

    assert outcome.ok
    assert sorted(order) == sorted(item.resource.id for item in some)
    assert run(some)[0].done == ()


def test_the_default_trigger_says_what_it_follows(tmp_path):
    assert TextFile("a").triggered({"file:c", "file:b"}) == Change(Action.UPDATE, "follows file:b, file:c")
