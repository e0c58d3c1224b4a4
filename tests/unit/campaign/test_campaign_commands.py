# What people type to make, look at and send a campaign, and what they read.

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from campaign_place import Clock, subscribe
from campaign_typed import Commands
from sink import Sink
from test_campaign_sending import people, send
from typer.testing import CliRunner

from asked_relay import LOGIN, FakeSmtp
from todoku.campaign import campaigns
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.cli.main import app
from todoku.cli.parts import campaign_sender
from todoku.cli.parts import cloud as cloud_parts
from todoku.cloud import probe
from todoku.settings import RelayCredential
from todoku.store import campaign_schema as schema

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the commands are root's")


TEST = ("--subject-b", "Beta", "--test-share", "40", "--decide-after", "4h", "--decide-by", "objections")


def test_a_test_of_two_subjects_is_made_started_and_decided_by_hand(
    commands: Commands, opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    people(opened, news, 20)
    assert "spring has 20 recipients" in commands.create(*TEST)
    assert "is no subject: a or b" in commands.refused("choose spring c", 2)
    assert "is draft, and cannot be decided" in commands.refused("choose spring b", 1)
    assert "Nothing was sent" in commands.refused("start spring", 1, typed="n\n")
    assert "is started" in commands.done("start spring", typed="y\n")
    sink = Sink()
    send(opened, sink, tmp_path)
    assert len(sink.taken) == 8
    clock.now += 5 * 3600
    send(opened, sink, tmp_path)  # nobody objected: it cannot be said which one is better
    assert len(sink.taken) == 8
    shown = json.loads(commands.done("progress spring --json"))
    assert shown["test"]["winner"] is None
    assert shown["test"]["words"]
    assert "12 people get subject b." in commands.done("choose spring b")
    assert "is decided" in commands.refused("choose spring a", 1)
    send(opened, sink, tmp_path)
    assert sum(b"Subject: Beta" in raw for raw in sink.raw) == 16
    assert "20 sent" in commands.done("list")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--decide-after", "4h"), 2, "need --test-share"),
        (("--decide-by", "opens"), 2, "need --test-share"),
        (("--test-share", "40"), 1, "two subjects"),
        (("--subject-b", "B", "--test-share", "40", "--decide-after", "soon"), 2, "30m, 4h or 1d"),
        (("--subject-b", "B", "--test-share", "40", "--decide-by", "luck"), 1, "clicks, opens, objections"),
        (("--subject-b", "B", "--test-share", "95"), 1, "2 to 90 percent"),
    ],
)
def test_a_test_that_cannot_be_one_is_refused_with_the_options_name(
    commands: Commands, opened: Opened, options: tuple[str, ...], code: int, words: str
) -> None:
    files = ("--text", str(commands.folder / "t.txt"))
    assert words in commands.refused("create spring --list news --subject A", code, *files, *options)
    assert campaigns.overview(opened) == []


def test_what_came_out_of_a_backup_needs_a_word_more_to_be_started(
    commands: Commands, opened: Opened, news: int
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="A")
    commands.create()
    with opened.write() as connection:
        connection.execute(
            schema.campaign.update().values(state="paused", words=f"{campaigns.RESTORED} yesterday")
        )
    assert "start spring --after-restore` goes on" in commands.refused("start spring --yes", 1)
    assert campaigns.overview(opened)[0]["state"] == "paused"
    commands.done("start spring --yes --after-restore")
    assert campaigns.overview(opened)[0]["state"] == "started"


@pytest.mark.parametrize(
    "html",
    ["<img src='cid:logo'>", '<img src="data:image/png;base64,AAAA">', "<td style='background:url(cid:x)'>"],
)
def test_what_would_have_to_be_attached_is_refused_with_the_advice_to_link_it(
    commands: Commands, opened: Opened, news: int, html: str
) -> None:
    people(opened, news, 1)
    files = ("--text", str(commands.folder / "t.txt"), "--html", str(commands.folder / "t.html"))
    said = commands.refused("create spring --list news --subject A", 2, *files, "--attach", "report.pdf")
    assert "no attachments" in said and "write its address" in said
    assert campaigns.overview(opened) == []
    (commands.folder / "t.html").write_text(f"{html}<a href='{{{{ unsubscribe }}}}'>x</a>")
    commands.create()
    assert "Put the file on a page" in commands.refused("start spring --yes", 1)
    assert campaigns.overview(opened)[0]["state"] == "draft"


def test_the_progress_says_how_fast_it_goes_and_when_it_will_be_done(
    commands: Commands, opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    people(opened, news, 30)
    commands.create()
    commands.done("start spring --yes")
    send(opened, Sink(), tmp_path, per_hour=10)
    clock.now += 5
    shown = json.loads(commands.done("progress spring --json"))
    assert shown["per_second"] == 2  # ten in five seconds
    assert shown["ends"] == clock.now + 10
    said = commands.done("progress spring")
    assert "spring  started  10 of 30: 20 ready, 10 sent  2.0 a second, done at 2026-09-21" in said


# -- people


def subscriber(commands: Commands, line: str, code: int = 0) -> str:
    arguments = ["--config", str(commands.folder / "todoku.toml"), "subscriber", *line.split()]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_a_person_is_shown_everything_and_forgotten_and_not_added_again(
    commands: Commands, opened: Opened, news: int, tmp_path: Path
) -> None:
    subscriber(commands, "add news alice@mailbox.example --evidence card-of-2026")
    campaigns.create(opened, "spring", "news", Source("Hi", "{{ unsubscribe }}"))
    replies = {"rcpt": "451 4.2.1 alice is busy"}
    campaigns.start(opened, "spring")
    send(opened, Sink(answer=lambda stage, _: replies.get(stage, "250 Ok")), tmp_path)
    shown = json.loads(subscriber(commands, "show alice@mailbox.example --json"))
    assert shown["consent"][0]["text"] == "card-of-2026"
    assert shown["messages"][0]["campaign"] == "spring"
    assert "alice is busy" in shown["attempts"][0]["words"]
    assert "blocked_words" in shown
    assert "ledger.days" in subscriber(commands, "forget alice@mailbox.example --yes")
    subscriber(commands, "show alice@mailbox.example", 1)
    said = subscriber(commands, "add news alice@mailbox.example --evidence x", 1)
    assert "asked to be forgotten" in said


# -- whether the relay takes it


def test_nothing_is_begun_while_single_addresses_only_are_approved(
    commands: Commands, opened: Opened, news: int, relay: FakeSmtp
) -> None:
    people(opened, news, 3)
    commands.create()
    relay.approved = {"news@hoge.example", "bounces@hoge.example"}  # which is not what MAIL says
    said = commands.refused("start spring --yes", 1)
    assert "bounces+c=...@hoge.example" in said and "535 Authorization failed" in said
    assert "all of the domain as @hoge.example" in said
    assert "approved sender @hoge.example in Oracle's console" in said
    assert campaigns.overview(opened)[0]["state"] == "draft"
    assert "@hoge.example" in json.loads(commands("check spring --json").stdout)["faults"][0]
    relay.approved = {"@hoge.example"}
    relay.said = []
    commands.done("start spring --yes")
    assert campaigns.overview(opened)[0]["state"] == "started"
    asked = [line for line in relay.said if line.startswith("mail")]
    assert len(asked) == 2 and asked[0].startswith("mail FROM:<bounces+c=") and "news@" in asked[1]
    assert "data" not in " ".join(relay.said).lower()


def test_with_the_cloud_the_command_that_approves_it_is_named(opened: Opened) -> None:
    settings = opened.settings.model_copy(update={"cloud": object()})
    answer = probe.Answer(probe.Verdict.REFUSED, "535 no")
    assert "`todoku apply --wait`" in campaign_sender._envelope(settings, "bounces+c=x@hoge.example", answer)


def test_what_is_not_known_of_the_relay_is_said_and_nothing_is_begun(
    commands: Commands, opened: Opened, news: int, relay: FakeSmtp, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(opened, news, 1)
    commands.create()
    relay.throttled = True
    assert "had too many refusals" in commands.refused("start spring --yes", 1)
    relay.throttled = False
    relay.approved = {"@bounces.hoge.example"}
    wrong = RelayCredential(LOGIN.username, "another")
    monkeypatch.setattr(cloud_parts, "relay", lambda _: probe.Relay(relay.endpoint(), lambda: wrong))
    said = commands.refused("start spring --yes", 1)
    assert "refuses the user name or password" in said and "todoku credential status" in said
    assert "another" not in said
    nowhere = probe.Endpoint("localhost", 1, "mx.hoge.example")
    monkeypatch.setattr(cloud_parts, "relay", lambda _: probe.Relay(nowhere, lambda: LOGIN))
    assert "cannot be reached" in commands.refused("start spring --yes", 1)
    assert campaigns.overview(opened)[0]["state"] == "draft"
