# Plan and apply as people and programs use them: what is printed, what is asked, and the exit codes.

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from plan_app import app
from typer.testing import CliRunner

from todoku.cli import plan
from todoku.cli.parts import desired

PROGRAM = Path(__file__).with_name("plan_app.py")


@pytest.fixture
def todoku(tmp_path):
    return Todoku(tmp_path)


class Todoku:
    """Runs the commands in a process of their own on `folder`."""

    def __init__(self, folder):
        self.folder = folder
        hidden = ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
        self.environment = {key: value for key, value in os.environ.items() if key not in hidden}
        self.environment |= {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"}

    def scenario(self, name):
        (self.folder / "scenario").write_text(name)

    def start(self, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        return subprocess.Popen(
            [sys.executable, PROGRAM, self.folder, *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env=self.environment,
        )

    def __call__(self, *arguments):
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def on_a_terminal(self, *arguments, answer):
        """The same on a terminal, where the question is answered with `answer`."""
        ours, theirs = pty.openpty()
        with self.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            screen, answered = "", False
            while select.select([ours], [], [], 60)[0]:
                try:
                    read = os.read(ours, 65536).decode()
                except OSError:  # the other side is closed
                    break
                screen += read
                if "[y/N]" in screen and not answered:
                    os.write(ours, f"{answer}\n".encode())
                    answered = True
            os.close(ours)
        return process.returncode, screen

    def history(self):
        path = self.folder / "history"
        return path.read_text().splitlines() if path.exists() else []


def wait_for(path):
    for _ in range(1500):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path.name} did not appear")


def test_plan_shows_every_stage_and_changes_nothing(todoku):
    todoku.scenario("good")

    code, out, err = todoku("plan")

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "host",
        "  + file:a  create a",
        "      a test wants it",
        "  + file:b  create b",
        "      a test wants it",
        "  ! service:mail  start mail",
        "      a test wants it",
        "",
        "2 to create, 1 to run, 0 unchanged.",
    ]
    assert todoku.history() == []


def test_plan_check_ends_with_2_until_everything_is_applied(todoku):
    todoku.scenario("good")

    assert todoku("plan", "--check")[0] == 2
    assert todoku("apply", "--yes")[0] == 0
    assert todoku("plan", "--check")[0] == 0
    assert todoku("plan")[1] == "Nothing to do: 3 unchanged.\n"
    assert "    service:mail  unchanged\n" in todoku("plan", "--all")[1]


def test_a_plan_with_something_that_cannot_be_looked_up_ends_with_1(todoku):
    todoku.scenario("silent")

    code, out, _ = todoku("plan", "--check")

    assert code == 1
    assert "x service:mail  cannot ask the manager about mail" in out


def test_a_plan_as_json_is_one_line(todoku):
    todoku.scenario("good")

    code, out, _ = todoku("plan", "--json")

    assert code == 0
    (line,) = out.splitlines()
    assert json.loads(line)["changes"] == 3


def test_apply_tells_each_step_in_a_plain_line_and_the_second_time_has_nothing_to_do(todoku):
    todoku.scenario("good")

    code, out, err = todoku("apply", "--yes")

    assert (code, err) == (0, "")
    steps = [line.split(" done in ")[0] for line in out.splitlines() if line.startswith("[")]
    assert steps == ["[1/3] file:a ...", "[2/3] file:b ...", "[3/3] service:mail ..."]
    assert out.splitlines()[-1].startswith("Done: 3 changed, 0 unchanged, in ")
    assert "\x1b" not in out

    assert todoku("apply", "--yes")[:2] == (0, "Nothing to do: 3 unchanged.\n")
    assert todoku.history() == ["file:a", "file:b", "service:mail"]


def test_apply_needs_no_yes_when_there_is_nothing_to_do(todoku):
    todoku.scenario("good")
    todoku("apply", "--yes")

    assert todoku("apply")[0] == 0


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_without_somebody_to_ask_apply_refuses_and_says_what_to_add(todoku, options):
    todoku.scenario("good")

    code, _, err = todoku("apply", *options)

    assert code == 2
    assert err.startswith("nothing was changed: ")
    assert "add --yes" in err
    assert todoku.history() == []


def test_on_a_terminal_apply_asks_and_a_no_changes_nothing(todoku):
    todoku.scenario("good")

    code, screen = todoku.on_a_terminal("apply", answer="n")

    assert code == 1
    assert "Apply this? [y/N]" in screen
    assert "nothing was changed" in screen
    assert todoku.history() == []


def test_on_a_terminal_apply_asks_and_a_yes_does_it(todoku):
    todoku.scenario("good")

    code, screen = todoku.on_a_terminal("apply", answer="y")

    assert code == 0
    assert "[3/3] service:mail ... done in" in screen
    assert "Done: 3 changed" in screen
    assert todoku.history() == ["file:a", "file:b", "service:mail"]


def test_apply_as_json_is_one_object_per_line_and_the_last_one_is_the_outcome(todoku):
    todoku.scenario("good")

    code, out, err = todoku("apply", "--yes", "--json")

    assert (code, err) == (0, "")
    plan, *events, last = map(json.loads, out.splitlines())
    assert (plan["event"], plan["changes"]) == ("plan", 3)
    assert [(event["event"], event["id"]) for event in events] == [
        (kind, name) for name in ("file:a", "file:b", "service:mail") for kind in ("started", "done")
    ]
    assert last["ok"] is True
    assert last["changed"] == ["file:a", "file:b", "service:mail"]

    *_, last = map(json.loads, todoku("apply", "--yes", "--json")[1].splitlines())
    assert (last["ok"], last["changed"], len(last["unchanged"])) == (True, [], 3)


def test_a_failure_says_what_was_done_what_failed_and_what_was_not_tried(todoku):
    todoku.scenario("full")

    code, out, err = todoku("apply", "--yes")

    assert code == 1
    assert f"[2/3] file:b ... FAILED: the disk is full ({todoku.folder}/b): make room" in out
    assert out.splitlines()[-5:] == [
        "Failed.",
        "  done:      file:a",
        f"  failed:    file:b: the disk is full ({todoku.folder}/b): "
        "make room (`df -h` shows where), then try again",
        "  not tried: service:c (needs file:b)",
        "Fix it and run `todoku apply` again: what is done stays done.",
    ]
    assert "Traceback" not in out + err


def test_a_failure_as_json(todoku):
    todoku.scenario("full")

    code, out, _ = todoku("apply", "--yes", "--json")

    last = json.loads(out.splitlines()[-1])
    assert code == 1
    assert last["ok"] is False
    assert [one["id"] for one in last["failed"]] == ["file:b"]
    assert last["not_tried"] == [{"id": "service:c", "because": "needs file:b"}]


def test_an_error_of_our_own_shows_the_outcome_first_and_then_the_traceback(todoku):
    todoku.scenario("wrong")

    code, out, err = todoku("apply", "--yes")

    assert code == 1
    assert "failed:    file:a: an error in the program itself (KeyError)" in out
    assert "Traceback" in err


def test_an_incomplete_plan_is_not_applied(todoku):
    todoku.scenario("silent")

    code, _, err = todoku("apply", "--yes")

    assert code == 1
    assert "first see to what is marked x" in err
    assert todoku.history() == []


@pytest.mark.parametrize(
    ("scenario", "says"),
    [("circle", "circle: file:a -> file:a"), ("no credential", "/etc/todoku/secrets/relay does not exist")],
)
def test_when_no_plan_can_be_made_it_says_why(todoku, scenario, says):
    todoku.scenario(scenario)

    for command in (("plan",), ("apply", "--yes"), ("plan", "--json")):
        code, out, err = todoku(*command)
        assert code == 1
        assert says in err
        assert "Traceback" not in err
        assert ("error" in json.loads(out)) if "--json" in command else out == ""


def test_a_second_apply_at_the_same_time_is_refused_with_the_first_ones_process(todoku):
    todoku.scenario("held")
    with todoku.start("apply", "--yes") as first:
        wait_for(todoku.folder / "running")
        code, _, err = todoku("apply", "--yes")
        (todoku.folder / "go").touch()
        first.communicate(timeout=60)

    assert code == 1
    assert f"another `todoku apply` (process {first.pid}) is running" in err
    assert first.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_the_running_step_ends_and_the_rest_is_told_as_not_tried(todoku, number):
    todoku.scenario("held")
    with todoku.start("apply", "--yes") as process:
        wait_for(todoku.folder / "running")
        process.send_signal(number)
        assert process.stderr.readline() == "\n"
        assert "what is running ends first" in process.stderr.readline()
        (todoku.folder / "go").touch()
        out, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Stopped before the end." in out
    assert "  done:      file:a\n" in out
    assert "  not tried: file:b (interrupted)\n" in out
    assert todoku.history() == ["file:a"]


def test_interrupted_twice_it_ends_at_once_and_tells_what_may_be_half_done(todoku):
    todoku.scenario("held")
    with todoku.start("apply", "--yes") as process:
        wait_for(todoku.folder / "running")
        process.send_signal(signal.SIGINT)
        process.stderr.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert time.monotonic() - began < 50
    assert process.returncode == 1
    assert "file:a: interrupted while it ran: it may be half done" in out
    assert "  not tried: file:b (needs file:a)\n" in out
    assert "Traceback" not in err


def test_with_nohup_a_lost_terminal_does_not_stop_apply(todoku):
    todoku.scenario("held")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does; it is inherited
    try:
        process = todoku.start("apply", "--yes")
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        wait_for(todoku.folder / "running")
        process.send_signal(signal.SIGHUP)
        (todoku.folder / "go").touch()
        process.communicate(timeout=60)

    assert process.returncode == 0
    assert todoku.history() == ["file:a", "file:b"]


def test_what_a_person_has_to_enter_is_told_once_and_then_how_far_it_has_come(todoku):
    todoku.scenario("by hand")
    said = todoku.folder / "said"
    with said.open("w") as output, todoku.start("apply", "--yes", "--wait", stdout=output) as process:
        _wait_until(lambda: "still waiting" in said.read_text() or said.read_text().count("zone file"))
        time.sleep(1)  # some ten rounds in which nothing happens
        (todoku.folder / "one").write_text("wanted\n")
        _wait_until(lambda: "1 of 2 records" in said.read_text())
        time.sleep(0.5)
        (todoku.folder / "two").write_text("wanted\n")
        assert process.wait(60) == 0
    told = said.read_text()
    for name in ("one", "two"):
        assert told.count(f"the file {name} has to be entered by hand:\n  with wanted") == 1
        assert told.count(f"file:{name} ... is in place now") == 1
    assert told.count("The same as a zone file:\n$ORIGIN home.\none\ntwo\n") == 1
    assert told.count("1 of 2 records that are entered by hand can be seen; still waiting for file:two") == 1
    assert told.count("2 of 2 records that are entered by hand can be seen") == 1
    assert "Done: 1 changed, 2 unchanged" in " ".join(told.split())  # nothing of theirs was our doing


def test_without_waiting_what_a_person_has_to_enter_is_told_and_counts_as_nothing_done(todoku):
    todoku.scenario("by hand")
    code, out, _ = todoku("apply", "--yes")
    assert code == 0
    assert out.count("  with wanted") == 2
    assert (
        out.count("the file one has to be entered by hand") == 2
    )  # at length, and once more in one line at the end
    assert "Done: 1 changed, 0 unchanged" in out
    assert "waiting:   file:one: the file one has to be entered by hand\n" in out
    again, out, _ = todoku("apply", "--yes", "--json")
    outcome = json.loads(out.splitlines()[-1])
    assert (again, outcome["changed"]) == (0, [])
    assert outcome["waiting"][0]["enter"] == {"place": "home", "lines": ["one"]}


def _wait_until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_apply_is_refused_without_root(todoku, monkeypatch):
    todoku.scenario("good")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for place, name in ((desired, "Desired"), (plan, "LOCK"), (plan, "JOURNAL")):
        monkeypatch.setattr(place, name, getattr(place, name))  # puts back what app() replaces

    result = CliRunner().invoke(app(todoku.folder), ["apply", "--yes"])

    assert result.exit_code == 2
    assert "`todoku apply` needs root: run it again with sudo." in result.output
    assert todoku.history() == []
