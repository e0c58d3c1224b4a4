# What people type when a key or a password is due, and when everything has to go: it says what is, never shows
# a password, deletes nothing without the domain's name, and answers programs in JSON.

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "cloud"))
from cloud_fake import TEXT, Clock, FakeApi, FakeRelay, Keeper, cloud, settings

from todoku.cli import credential, destroy, dkim
from todoku.cli import plan as plan_commands
from todoku.cli.parts import cloud as cloud_parts
from todoku.cli.parts import desired, dkim_records
from todoku.cli.parts.context import Context
from todoku.cli.services import dkim_age
from todoku.cloud.desired import resources
from todoku.cloud.values import Sender
from todoku.delivery import alarms
from todoku.plan.apply import apply
from todoku.plan.resource import Item

DAY = 24 * 3600


class Here:
    """The commands, on a fake cloud in which `apply` has run."""

    def __init__(self, tmp_path, monkeypatch):
        self.config = tmp_path / "todoku.toml"
        self.config.write_text(TEXT)
        self.clock = Clock()
        self.api = FakeApi(self.clock)
        self.api.dkim_seen = self.api.path_seen = True
        self.keeper = Keeper()
        self.relay = FakeRelay(self.api, self.keeper)
        self.reloads = 0
        self.apply()
        self.clock.sleep(DAY)
        monkeypatch.setattr(cloud_parts, "cloud", lambda _settings: cloud(self.api))
        monkeypatch.setattr(cloud_parts, "keeper", lambda _settings, _host: self.keeper)
        monkeypatch.setattr(cloud_parts, "relay", lambda _settings: self.relay)
        monkeypatch.setattr(cloud_parts, "have_postfix_read", lambda *_: self.reload())
        monkeypatch.setattr(plan_commands, "LOCK", tmp_path / "lock")
        monkeypatch.setattr(
            dkim_records, "publishing", lambda *_: (lambda _records: None, lambda _record: True)
        )
        monkeypatch.setattr("todoku.cloud.credential_rotation.time.sleep", lambda _seconds: None)
        for module in (credential, dkim, destroy):
            monkeypatch.setattr(module, "require_root", lambda _what: None)

    def apply(self):
        client = cloud(self.api)
        wanted = resources(settings(), self.keeper, self.relay)
        outcome = apply([Item(resource, client) for resource in wanted], lambda _event: None)
        assert outcome.ok, outcome

    def reload(self):
        self.reloads += 1

    def run(self, *arguments, typed=None):
        app = typer.Typer()

        @app.callback()
        def options(ctx: typer.Context) -> None:
            ctx.obj = Context(self.config)

        app.add_typer(dkim.app, name="dkim")
        app.add_typer(credential.app, name="credential")
        app.command("destroy")(destroy.destroy)
        return CliRunner().invoke(app, arguments, input=typed)


@pytest.fixture
def here(tmp_path, monkeypatch):
    return Here(tmp_path, monkeypatch)


def test_the_plan_groups_everything_of_the_cloud_below_cloud():
    # The logs of the relay stood among the files and services of the host.
    wanted = settings('instance = "ocid1.instance.oc1..me"\n')
    clock = Clock()
    keeper = Keeper()
    made = resources(wanted, keeper, FakeRelay(FakeApi(clock), keeper))
    assert {desired.worlds().of(each.id) for each in made} == {"cloud"}
    assert {each.id.partition(":")[0] for each in made} >= {"log", "ingress", "email-domain", "sender"}
    assert desired.worlds().of("dns:hoge.example/MX") == "dns"


def test_the_state_of_the_keys_is_shown_with_the_advice_when_it_is_due(here):
    shown = here.run("dkim", "status")
    assert shown.exit_code == 0
    assert "todoku-nrt1-202611" in shown.stdout and "  1 day old" in shown.stdout
    assert "six months" not in shown.stdout

    here.clock.sleep(200 * DAY)
    assert "six months" in here.run("dkim", "status").stdout


def test_the_postmaster_is_told_of_a_key_that_is_old_and_the_cloud_is_asked_once_a_day(here, tmp_path):
    now = [0.0]
    look = dkim_age.look(settings(), lambda: cloud(here.api), tmp_path, lambda: now[0])
    look()
    assert alarms.reported(tmp_path) == []
    here.clock.sleep(200 * DAY)
    look()
    assert alarms.reported(tmp_path) == []  # not asked again yet
    now[0] += DAY
    look()
    (alarm,) = alarms.reported(tmp_path)
    assert alarm.name == "dkim:hoge.example"
    assert "is 201 days old" in alarm.found
    assert "todoku dkim rotate" in alarm.advice
    assert here.run("dkim", "rotate", "--wait", "600").exit_code == 0
    now[0] += DAY
    look()
    assert alarms.reported(tmp_path) == []


def test_a_domain_without_a_key_that_signs_is_a_finding(here):
    here.api.keys.clear()

    shown = here.run("dkim", "status", "--json")

    assert shown.exit_code == 1
    assert json.loads(shown.stdout) == {"ok": False, "keys": []}


def test_a_domain_that_is_not_ours_is_refused_with_those_that_are(here):
    shown = here.run("dkim", "status", "other.example")
    assert shown.exit_code == 2
    assert "hoge.example" in shown.output


def test_a_key_is_rotated_from_the_command_line(here):
    shown = here.run("dkim", "rotate", "--json")

    assert shown.exit_code == 0, shown.output
    (rotation,) = json.loads(shown.stdout)["rotations"]
    assert rotation["stage"] == "old_remains" and rotation["old"] == "todoku-nrt1-202611"
    assert "the old one stays for a day" in here.run("dkim", "rotate").stdout


def test_a_credential_is_rotated_and_no_password_is_shown_anywhere(here):
    before = here.keeper.kept

    shown = here.run("credential", "rotate")

    assert shown.exit_code == 0, shown.output
    assert here.keeper.kept != before and here.reloads == 1
    for _, password in (before, here.keeper.kept):
        assert password not in shown.output
    status = here.run("credential", "status")
    assert "in use" in status.stdout and here.keeper.kept[1] not in status.output


def test_a_credential_that_the_cloud_does_not_know_is_a_finding(here):
    here.api.credentials.clear()
    shown = here.run("credential", "status")
    assert shown.exit_code == 1 and "todoku apply" in shown.stdout


def test_a_refusal_of_the_cloud_is_a_sentence_and_an_object_for_programs(here):
    here.api.denied = {"dkims"}
    shown = here.run("dkim", "status", "--json")
    assert shown.exit_code == 1
    assert "Allow group YOUR-GROUP" in json.loads(shown.stdout.splitlines()[-1])["error"]


def test_nothing_is_destroyed_before_the_domain_is_typed(here):
    for arguments in ((), ("--confirm", "other.example"), ("--json",)):
        shown = here.run("destroy", *arguments, typed="\n")
        assert shown.exit_code in (1, 2), shown.output
    assert not any(operation.startswith("delete") for operation in here.api.calls)


def test_destroy_shows_what_goes_and_what_stays_and_then_does_it(here):
    foreign = Sender("x", "boss@hoge.example", "ACTIVE", False, here.clock.now())
    here.api.all_senders.append(foreign)

    shown = here.run("destroy", "--confirm", "hoge.example")

    assert shown.exit_code == 0, shown.output
    assert "This stays:" in shown.stdout and "boss@hoge.example: not made by Todoku" in shown.stdout
    assert here.api.all_senders == [foreign]
    assert [domain.name for domain in here.api.domains] == ["hoge.example"]  # the other sender needs it
    assert not here.api.users and not here.api.groups and not here.api.credentials and not here.api.paths


def test_destroy_goes_in_the_opposite_order_and_can_be_run_again(here):
    here.api.breaks["delete_group"] = ["denied"] * 3

    first = here.run("destroy", "--confirm", "hoge.example", "--json")
    assert first.exit_code == 1
    assert [one["what"] for one in json.loads(first.stdout)["failed"]] == ["group todoku-senders"]
    calls = [operation for operation in here.api.calls if operation.startswith(("delete", "leave"))]
    assert calls.index("delete_sender") < calls.index("delete_dkim") < calls.index("delete_email_domain")
    assert calls.index("delete_smtp_credential") < calls.index("leave") < calls.index("delete_user")

    here.api.breaks.clear()
    assert here.run("destroy", "--confirm", "hoge.example").exit_code == 0
    assert not here.api.groups
    assert "nothing in the cloud" in here.run("destroy", "--confirm", "hoge.example").stdout


def test_without_a_cloud_table_the_commands_say_so(tmp_path):
    config = tmp_path / "todoku.toml"
    config.write_text(TEXT.partition("[cloud]")[0])

    app = typer.Typer()

    @app.callback()
    def options(ctx: typer.Context) -> None:
        ctx.obj = Context(config)

    app.add_typer(dkim.app, name="dkim")
    shown = CliRunner().invoke(app, ["dkim", "status"])
    assert shown.exit_code == 2 and "[cloud]" in shown.output


def test_the_credential_is_stored_for_root_alone_byte_for_byte(tmp_path):
    from todoku.host.client import Host

    secrets = tmp_path / "secrets" / "relay"
    wanted = settings().model_copy(
        update={"relay": settings().relay.model_copy(update={"credential_file": secrets})}
    )
    keeper = cloud_parts.CredentialFile(wanted, Host())
    assert keeper.username() is None

    keeper.store("user@tenancy.x9.com", "p4$s:word[#&!(<.}\"'\\`~")

    assert secrets.read_bytes() == b"user@tenancy.x9.com\np4$s:word[#&!(<.}\"'\\`~\n"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert secrets.parent.stat().st_mode & 0o777 == 0o700
    assert keeper.username() == "user@tenancy.x9.com"
