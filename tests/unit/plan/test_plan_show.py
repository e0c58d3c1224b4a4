# The plan is what people decide by: everything has to be there, in a file or a mail as well as on a terminal,
# and a secret never.

import io
import json

import pytest
from plan_resources import Daemon, Silent, TextFile, items
from rich.console import Console

from todoku.plan import show
from todoku.plan.apply import apply
from todoku.plan.events import Done, Failed, NotTried, Outcome, Started, Unchanged, Waiting
from todoku.plan.plan import Plan, Step, make
from todoku.plan.resource import Action, Change

DIFF = """\
--- /etc/postfix/main.cf
+++ /etc/postfix/main.cf (wanted)
@@ -1,2 +1,2 @@
 compatibility_level = 3.6
-relayhost =
+relayhost = [smtp.email.example]:587
"""

PLAN = Plan(
    (
        Step("package:postfix", "it moves the mail", Change(Action.CREATE, "install postfix")),
        Step("file:main.cf", "Postfix reads it", Change(Action.UPDATE, "replace main.cf", DIFF)),
        Step("file:old", "nothing needs it", Change(Action.DELETE, "remove old")),
        Step("record:MX", "others deliver here", Change(Action.CREATE, "add MX")),
        Step("service:postfix", "mail", Change(Action.RUN, "restart")),
        Step("service:new", "more", Change(Action.UPDATE, "known after apply", "later"), known=False),
        Step("user:vmail", "owns the mail", None),
    )
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def printed(*what, terminal=False, outcome=False, **options):
    out = io.StringIO()
    console = Console(
        file=out, width=40, force_terminal=terminal, color_system="standard" if terminal else None
    )
    (show.outcome if outcome else show.plan)(*what, console, **options)
    return out.getvalue()


def test_every_change_has_its_symbol_its_reason_and_its_diff():
    text = printed(PLAN)

    assert text.startswith("host\n  + package:postfix  install postfix\n      it moves the mail\n")
    assert (
        "  ~ file:main.cf  replace main.cf\n      Postfix reads it\n      --- /etc/postfix/main.cf\n" in text
    )
    assert "      +relayhost = [smtp.email.example]:587\n" in text
    assert "  - file:old  remove old\n" in text
    assert "  ! service:postfix  restart\n" in text
    assert "  ? service:new  known after apply\n" in text
    assert text.endswith(
        "\n2 to create, 1 to update, 1 to delete, 1 to run, 1 known after apply, 1 unchanged.\n"
    )


def test_what_does_not_change_is_counted_and_listed_only_on_request():
    assert "user:vmail" not in printed(PLAN)
    assert "    user:vmail  unchanged\n" in printed(PLAN, everything=True)


def test_an_empty_plan_says_that_there_is_nothing_to_do():
    assert printed(Plan((Step("a", "b", None),))) == "Nothing to do: 1 unchanged.\n"


def test_resources_are_grouped_by_world():
    text = printed(PLAN, worlds=show.Worlds({"record": "dns"}))

    host, dns = text.split("\ndns\n")
    assert host.startswith("host\n")
    assert "  + record:MX  add MX\n      others deliver here\n" in dns
    assert "record:MX" not in host
    assert "service:postfix" in host


def test_without_a_terminal_there_are_no_colours_and_long_lines_stay_whole():
    long = "x" * 500
    text = printed(Plan((Step("file:a", long, Change(Action.CREATE, long, "+" + long)),)))

    assert "\x1b" not in text
    assert f"  + file:a  {long}\n      {long}\n      +{long}\n" in text


def test_on_a_terminal_what_is_added_is_green_and_what_is_removed_red():
    text = printed(PLAN, terminal=True)

    assert "\x1b[32m      +relayhost = [smtp.email.example]:587\x1b[0m" in text
    assert "\x1b[31m      -relayhost =\x1b[0m" in text


def test_a_file_that_holds_terminal_commands_or_markup_is_shown_and_not_obeyed():
    text = printed(
        Plan((Step("file:a", "[red]why[/]", Change(Action.UPDATE, "s", "-old\r\n+\x1b[2Jnew\x9b")),))
    )

    assert "[red]why[/]" in text
    assert "      -old\\x0d\n      +\\x1b[2Jnew\\x9b\n" in text


def test_what_could_not_be_looked_up_is_shown_with_the_reason_and_the_plan_called_incomplete(tmp_path):
    text = printed(make(items(tmp_path, Silent("mail"))))

    assert "  x service:mail  cannot ask the manager about mail: it is not installed\n" in text
    assert "1 not looked up, 0 unchanged.\n" in text
    assert "The plan is incomplete" in text


def test_a_secret_appears_in_no_output(tmp_path):
    """The resource keeps it out of its Change; nothing else of the resource may leak into what is shown."""
    secret = "hunter2\n"
    events = []
    some = items(tmp_path, TextFile("password", secret), Daemon("mail", {"file:password"}))
    plan = make(some)
    outcome = apply(some, events.append)
    text = "".join(
        [
            printed(plan, everything=True),
            printed(outcome, outcome=True, planned=plan),
            json.dumps([show.as_json(plan), show.outcome_as_json(outcome)]),
            json.dumps([show.event_as_json(event) for event in events]),
        ]
    )

    assert (tmp_path / "password").read_text() == secret
    assert "create password" in text
    assert "hunter2" not in text


def test_a_plan_as_json_holds_the_same():
    value = json.loads(json.dumps(show.as_json(PLAN, show.Worlds({"record": "dns"}))))

    assert value["ok"] is True
    assert value["changes"] == 6
    assert value["summary"] == {
        "create": 2,
        "update": 1,
        "delete": 1,
        "run": 1,
        "later": 1,
        "waiting": 0,
        "problems": 0,
        "unchanged": 1,
    }
    assert value["steps"][1] == {
        "id": "file:main.cf",
        "world": "host",
        "why": "Postfix reads it",
        "action": "update",
        "summary": "replace main.cf",
        "detail": DIFF,
        "known": True,
        "needs": [],
        "problem": "",
        "waits": "",
    }
    assert value["steps"][3]["world"] == "dns"
    assert value["steps"][6]["action"] is None


def test_events_as_json():
    change = Change(Action.CREATE, "create a", "never a detail here")

    assert [
        show.event_as_json(event)
        for event in (
            Started("a", change),
            Waiting((("a", 10.00049),)),
            Done("a", change, 1.23456),
            Unchanged("b"),
            Failed("c", "disk full", 0.5),
            NotTried("d", "needs c"),
        )
    ] == [
        {"event": "started", "id": "a", "action": "create", "summary": "create a"},
        {"event": "waiting", "running": [{"id": "a", "seconds": 10.0}]},
        {"event": "done", "id": "a", "action": "create", "summary": "create a", "seconds": 1.235},
        {"event": "unchanged", "id": "b"},
        {"event": "failed", "id": "c", "reason": "disk full", "seconds": 0.5},
        {"event": "not tried", "id": "d", "because": "needs c"},
    ]


FAILED = Outcome(
    done=("package:postfix",),
    unchanged=("user:vmail",),
    failed=(Failed("file:main.cf", "postfix check complains:\nfatal: bad", 0.1),),
    not_tried=(
        NotTried("service:postfix", "needs file:main.cf"),
        NotTried("user:other", "stopped when file:main.cf failed"),
    ),
)


def test_a_failed_outcome_says_what_was_done_what_failed_what_was_not_tried_and_what_to_do():
    assert printed(FAILED, outcome=True, planned=PLAN) == (
        "Failed.\n"
        "  done:      package:postfix\n"
        "  failed:    file:main.cf: postfix check complains:\n"
        "             fatal: bad\n"
        "  not tried: service:postfix (needs file:main.cf)\n"
        "  1 more, unchanged in the plan, were not looked at again.\n"
        "Fix it and run `todoku apply` again: what is done stays done.\n"
    )


def test_a_good_outcome_is_one_line():
    assert printed(Outcome(done=("a", "b"), unchanged=("c",)), outcome=True, seconds=3.21) == (
        "Done: 2 changed, 1 unchanged, in 3.2 s.\n"
    )


def test_an_outcome_as_json():
    assert show.outcome_as_json(FAILED, 2.0) == {
        "ok": False,
        "changed": ["package:postfix"],
        "unchanged": ["user:vmail"],
        "failed": [{"id": "file:main.cf", "reason": "postfix check complains:\nfatal: bad"}],
        "not_tried": [
            {"id": "service:postfix", "because": "needs file:main.cf"},
            {"id": "user:other", "because": "stopped when file:main.cf failed"},
        ],
        "waiting": [],
        "stopped": False,
        "seconds": 2.0,
    }
