# `todoku account` and `todoku alias`: what people type and read, and the exit codes that scripts rely on.

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import argon2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from todoku import store
from todoku.cli import account, alias
from todoku.cli.parts.context import Context
from todoku.directory import Exporter, Owners, Place, place
from todoku.host import relay_senders

FAKE_POSTMAP = Path(__file__).parents[1] / "directory" / "fake_postmap"
PASSWORD = "correct horse 秘密"
SETTINGS = """
hostname = "mx.host.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[[domains]]
name = "日本.example"
[relay]
region = "ap-tokyo-1"
[accounts]
mode = "virtual"
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the commands are root's")


def place_in(folder: Path) -> Place:
    owners = Owners((5000, 5001), os.getgid(), os.getgid())
    # The fake does for the commands; what the real postmap makes of it is tested with the directory.
    exporter = Exporter(folder / "directory", folder / "mail", lambda: owners, (str(FAKE_POSTMAP),))
    return Place(folder / "todoku.sqlite3", exporter)


class Commands:
    """Types commands, in a machine that lives in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "todoku.toml"
        self.config.write_text(SETTINGS)
        self.place = place_in(folder)

    def __call__(self, line: str, typed: str | bytes = "") -> Result:
        group, *arguments = line.split()
        app = {"account": account.app, "alias": alias.app}[group]
        return CliRunner().invoke(app, arguments, input=typed, obj=Context(self.config))

    def done(self, line: str, typed: str = "") -> str:
        result = self(line, typed)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, line: str, code: int, typed: str | bytes = "") -> str:
        result = self(line, typed)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.stderr

    def json(self, line: str, typed: str = "", code: int = 0) -> Any:
        result = self(f"{line} --json", typed)
        assert result.exit_code == code, result.output
        assert result.stdout.count("\n") == 1
        return json.loads(result.stdout)

    def exported(self, name: str) -> str:
        return (self.place.exporter.folder / name).read_text()

    def verifies(self, login: str, password: str) -> bool:
        found = [
            line for line in self.exported("dovecot.passwd").splitlines() if line.startswith(f"{login}:")
        ]
        hashed = found[0].split(":")[1].removeprefix("{ARGON2ID}")
        try:
            return argon2.PasswordHasher().verify(hashed, password)
        except argon2.exceptions.VerifyMismatchError:
            return False


@pytest.fixture
def todoku(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands(tmp_path)
    monkeypatch.setattr(place, "HERE", commands.place)
    store.migrate(commands.place.database)
    return commands


@pytest.fixture
def alice(todoku: Commands) -> str:
    todoku.done("account add alice@hoge.example --password-stdin", PASSWORD)
    return "alice@hoge.example"


# Accounts


def test_a_generated_password_is_shown_once_and_works(todoku: Commands) -> None:
    output = todoku.done(
        "account add Alice@HOGE.example --generate --address a.smith@hoge.example --quota 5GB"
    )
    password = next(line.rpartition(" ")[2] for line in output.splitlines() if "password" in line)
    assert todoku.verifies("alice@hoge.example", password)
    assert todoku.verifies("alice", password)
    assert "*:bytes=5000000000 " in todoku.exported("dovecot.userdb")
    assert "a.smith@hoge.example" in output
    assert password not in todoku.done("account list")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_from_standard_input_is_taken_without_its_line_end(todoku: Commands, end: str) -> None:
    todoku.done("account add alice@hoge.example --password-stdin", PASSWORD + end)
    assert todoku.verifies("alice@hoge.example", PASSWORD)


def test_blanks_around_a_password_belong_to_it(todoku: Commands) -> None:
    todoku.done("account add alice@hoge.example --password-stdin", "  correct horse \n")
    assert todoku.verifies("alice@hoge.example", "  correct horse ")


def test_a_password_is_never_an_argument(todoku: Commands) -> None:
    assert todoku("account add alice@hoge.example --password secret-secret").exit_code == 2
    assert todoku("account add alice@hoge.example secret-secret").exit_code == 2


def type_at_a_terminal(folder: Path, *lines: str, arguments: tuple[str, ...]) -> tuple[int, str]:
    """Runs `todoku account ...` on a real terminal and answers each question with the next of `lines`."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_account_commands import place_in
from todoku.cli import account
from todoku.cli.parts.context import Context
from todoku.directory import place
place.HERE = place_in(Path({str(folder)!r}))
account.app({list(arguments)!r}, obj=Context(Path({str(folder / "todoku.toml")!r})))
"""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env=os.environ | {"TERM": "dumb"},
    )
    os.close(terminal)
    seen, waiting = "", list(lines)
    while True:
        ready, _, _ = select.select([main], [], [], 30)
        try:
            read = os.read(main, 4096) if ready else b""
        except OSError:  # the other side is gone
            read = b""
        if not read:
            break
        seen += read.decode(errors="replace")
        if seen.endswith(": ") and waiting:  # the blank comes when the terminal no longer echoes
            os.write(main, (waiting.pop(0) + "\n").encode())
            seen += "\n"
    os.close(main)
    return process.wait(30), seen


def test_a_password_is_typed_twice_without_being_shown(todoku: Commands, tmp_path: Path) -> None:
    code, seen = type_at_a_terminal(tmp_path, PASSWORD, PASSWORD, arguments=("add", "alice@hoge.example"))
    assert code == 0, seen
    assert "at least 10 characters" in seen
    assert PASSWORD not in seen
    assert todoku.verifies("alice@hoge.example", PASSWORD)


def test_an_address_that_cannot_be_is_refused_before_a_password_is_asked(
    todoku: Commands, tmp_path: Path
) -> None:
    code, seen = type_at_a_terminal(tmp_path, arguments=("add", "alice@elsewhere.example"))
    assert code == 2
    assert "hoge.example" in seen
    assert "password" not in seen.lower()


def test_without_a_terminal_the_other_ways_are_named(todoku: Commands) -> None:
    for line in ("account add alice@hoge.example", "account add bob@hoge.example"):
        assert "--password-stdin" in todoku.refused(line, 2, PASSWORD)


def test_two_ways_at_once_are_refused(todoku: Commands) -> None:
    message = todoku.refused("account add alice@hoge.example --generate --password-stdin", 2, PASSWORD)
    assert "exclude each other" in message


@pytest.mark.parametrize(
    "password", ["short", "with a\ttab in it", "line one\nline two", b"\xff\xfe not utf-8"]
)
def test_a_bad_password_is_refused_and_not_repeated(todoku: Commands, password: str | bytes) -> None:
    message = todoku.refused("account add alice@hoge.example --password-stdin", 2, password)
    assert "password" in message
    assert not isinstance(password, str) or password not in message
    assert todoku.json("account list")["accounts"] == []


def test_the_list_shows_addresses_in_both_forms_quota_and_remarks(todoku: Commands) -> None:
    todoku.done("account add taro@日本.example --generate --quota 0 --address taro@hoge.example")
    result = todoku("account list")
    assert "taro@xn--wgv71a.example (taro@日本.example)" in result.stdout
    assert "no limit" in result.stdout
    assert "    taro@hoge.example" in result.stdout
    assert "nobody gets mail at alice@hoge.example, the postmaster" in result.stderr
    todoku.config.write_text(SETTINGS.replace('[[domains]]\nname = "日本.example"\n', ""))
    assert "no longer in the settings" in todoku.done("account list")


def test_an_empty_list_says_how_to_begin(todoku: Commands) -> None:
    assert "todoku account add" in todoku.done("account list")
    assert todoku.json("account list") == {"ok": True, "accounts": []}


def test_json_has_everything_but_the_hash(todoku: Commands) -> None:
    made = todoku.json("account add taro@日本.example --generate")
    assert len(made["password"]) == 23
    assert made["account"]["address_unicode"] == "taro@日本.example"
    assert "postmaster" in made["notes"][0]
    (listed,) = todoku.json("account list")["accounts"]
    assert listed.pop("created").endswith("+00:00")
    assert listed == {
        "login": "taro@xn--wgv71a.example",
        "address": "taro@xn--wgv71a.example",
        "address_unicode": "taro@日本.example",
        "more_addresses": [],
        "send_as": [],
        "quota": 2_000_000_000,
        "quota_is_default": True,
        "in_use": True,
        "remark": "",
    }


def test_a_refusal_in_json_is_an_object_as_well(todoku: Commands, alice: str) -> None:
    answer = todoku.json(f"account add {alice} --generate", code=1)
    assert answer["ok"] is False
    assert "already" in answer["error"]


def test_the_password_changes(todoku: Commands, alice: str) -> None:
    todoku.done("account password alice --password-stdin", "another secret")
    assert todoku.verifies(alice, "another secret")
    assert not todoku.verifies(alice, PASSWORD)
    new = todoku.json("account password alice --generate")["password"]
    assert todoku.verifies(alice, new)


def test_an_account_with_references_is_removed_only_when_that_is_said(todoku: Commands, alice: str) -> None:
    todoku.done(f"alias add info@hoge.example {alice} carol@mailbox.example")
    message = todoku.refused(f"account remove {alice}", 1)
    assert f"info@hoge.example -> {alice}" in message
    assert "--yes" in message
    output = todoku.done(f"account remove {alice} --yes")
    assert f"Removed from the alias info@hoge.example: {alice}" in output
    assert str(todoku.place.exporter.mail / "hoge.example" / "alice") in output
    assert todoku.json("alias list")["aliases"][0]["targets"] == ["carol@mailbox.example"]


def test_mail_of_an_earlier_account_of_that_name_is_pointed_out(todoku: Commands) -> None:
    (todoku.place.exporter.mail / "hoge.example" / "alice").mkdir(parents=True)
    result = todoku("account add alice@hoge.example --generate")
    assert "holds mail of an earlier account" in result.stderr


def test_further_addresses_come_and_go(todoku: Commands, alice: str) -> None:
    output = todoku.done(f"account address add {alice} al@日本.example")
    assert "al@xn--wgv71a.example (al@日本.example)" in output
    assert todoku.json(f"account address remove {alice} al@日本.example")["account"]["more_addresses"] == []
    assert "primary address" in todoku.refused(f"account address remove {alice} {alice}", 1)


@pytest.mark.parametrize("quota", ["5", "5 GB".replace(" ", ""), "1.5GiB"])
def test_sizes_are_understood(todoku: Commands, quota: str) -> None:
    made = todoku.json(f"account add alice@hoge.example --generate --quota {quota}")
    assert made["account"]["quota"] == {"5": 5, "5GB": 5 * 10**9, "1.5GiB": 3 * 2**29}[quota]


@pytest.mark.parametrize("quota", ["lots", "-5", "5XB", ""])
def test_a_size_that_is_none_is_refused(todoku: Commands, quota: str) -> None:
    arguments = ["add", "alice@hoge.example", "--generate", f"--quota={quota}"]
    result = CliRunner().invoke(account.app, arguments, obj=Context(todoku.config))
    assert result.exit_code == 2
    assert "25 MB" in result.stderr


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("account add alice@elsewhere.example --generate", 2, "hoge.example, xn--wgv71a.example"),
        ("account add alice+x@hoge.example --generate", 2, "plus sign"),
        ("account add 太郎@hoge.example --generate", 2, "SMTPUTF8"),
        ("account add alice --generate", 2, "alice@hoge.example"),
        ("account password nobody@hoge.example --generate", 1, "todoku account list"),
        ("account remove nobody@hoge.example", 1, "todoku account list"),
        ("alias add info@hoge.example nobody@hoge.example", 1, "todoku account add nobody@hoge.example"),
        ("alias add info@hoge.example info@hoge.example", 1, "circle"),
        ("alias remove info@hoge.example", 1, "todoku alias list"),
    ],
)
def test_errors_say_what_to_do(todoku: Commands, line: str, code: int, words: str) -> None:
    assert words in todoku.refused(line, code)
    assert todoku.json(line, code=code)["ok"] is False


def test_before_the_first_apply_the_commands_say_to_apply(todoku: Commands) -> None:
    todoku.place.database.unlink()
    assert "todoku apply" in todoku.refused("account list", 1)


def test_wrong_settings_are_explained(todoku: Commands) -> None:
    todoku.config.write_text("hostname = 5\n")
    assert "hostname" in todoku.refused("account list", 2)


# Aliases


def test_aliases_are_made_listed_and_removed(todoku: Commands, alice: str) -> None:
    output = todoku.done(f"alias add info@日本.example {alice} carol@mailbox.example")
    assert "info@xn--wgv71a.example (info@日本.example)" in output
    assert "info@xn--wgv71a.example\talice@hoge.example,carol@mailbox.example" in todoku.exported(
        "virtual_alias"
    )
    assert "Nothing to do" in todoku.done(f"alias add info@日本.example {alice}")
    listed = todoku.done("alias list")
    assert "-> alice@hoge.example, carol@mailbox.example" in listed
    assert "abuse@hoge.example -> alice@hoge.example  (every domain has it)" in listed
    assert "now goes to carol@mailbox.example" in todoku.done(f"alias remove info@日本.example {alice}")
    assert "Removed the alias" in todoku.done("alias remove info@日本.example")
    assert "info@" not in todoku.exported("virtual_alias")


def test_aliases_in_json(todoku: Commands, alice: str) -> None:
    made = todoku.json(f"alias add info@hoge.example {alice}")
    assert made["added"] == [alice]
    assert todoku.json(f"alias add info@hoge.example {alice}")["added"] == []
    answer = todoku.json("alias list")
    assert answer["aliases"] == [
        {
            "address": "info@hoge.example",
            "address_unicode": "info@hoge.example",
            "targets": [alice],
            "remark": "",
        }
    ]
    assert {"address": "abuse@hoge.example", "targets": [alice]} in answer["implicit"]
    assert todoku.json("alias remove info@hoge.example")["targets"] == []


# System mode


def test_in_system_mode_the_password_is_the_machines(todoku: Commands) -> None:
    todoku.config.write_text(SETTINGS.replace("virtual", "system"))
    message = todoku.refused("account add nobody --generate", 2)
    assert "`passwd nobody`" in message
    assert "login nobody" in todoku.done("account add nobody")
    assert "nobody@hoge.example:::::::user=nobody noauthenticate" in todoku.exported("dovecot.passwd")
    assert "`passwd nobody`" in todoku.refused("account password nobody --generate", 2)


def test_the_help_comes_without_loading_the_database_library() -> None:
    code = "import sys, todoku.cli.account, todoku.cli.alias; print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("sqlalchemy", "alembic", "argon2", "pydantic", "rich.table"):
        assert f"'{heavy}'" not in run.stdout


# --- an account whose address the relay does not take yet


@pytest.fixture
def with_cloud(todoku: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with what the relay takes, as the last `todoku apply` saw it."""
    table = '[cloud]\ncompartment = "ocid1.compartment.oc1..aaaaaaaaexample"\n[dns]\npublisher = "manual"\n'
    todoku.config.write_text(SETTINGS + table)
    path = tmp_path / "approved"
    monkeypatch.setattr(relay_senders, "PATH", str(path))
    return path


def test_a_new_account_is_told_to_need_an_apply_until_its_address_is_approved(
    todoku: Commands, with_cloud: Path
) -> None:
    with_cloud.write_text("# approved\nalice@hoge.example\n")
    told = todoku("account add bob@hoge.example --generate").stderr
    assert "the relay takes no mail from bob@hoge.example yet: `todoku apply` approves it as a sender" in told
    told = todoku("account address add bob@hoge.example info@hoge.example --json").stdout
    assert "info@hoge.example yet" in json.loads(told)["notes"][0]
    assert "relay" not in todoku("account add alice@hoge.example --generate").stderr


def test_nothing_is_told_where_the_whole_domain_is_approved_or_it_is_not_known(
    todoku: Commands, with_cloud: Path
) -> None:
    assert "relay" not in todoku("account add carol@hoge.example --generate").stderr
    with_cloud.write_text("@hoge.example\n")
    assert "relay" not in todoku("account add bob@hoge.example --generate").stderr


def test_an_account_may_be_let_send_as_somebody_else_until_it_is_revoked(
    todoku: Commands, alice: str
) -> None:
    todoku.done("account add bob@hoge.example --generate")
    assert todoku.done(f"account send-as grant bob {alice}") == (
        f"bob@hoge.example may send as bob@hoge.example, {alice}.\n"
    )
    assert "it was like that already" in todoku(f"account send-as grant bob {alice}").stderr
    told = todoku.json("account send-as grant bob @日本.example")
    assert told["account"]["send_as"] == ["@xn--wgv71a.example", alice]
    listed = todoku.done("account list")
    assert f"    may send as {alice}\n" in listed
    assert "    may send as any address of xn--wgv71a.example (日本.example)\n" in listed
    assert todoku.json("account send-as revoke bob @日本.example")["account"]["send_as"] == [alice]
    words = "any address of xn--wgv71a.example (日本.example) was not granted to bob@hoge.example"
    assert words in todoku.refused("account send-as revoke bob @日本.example", 1)
    assert "mailbox.example is not in the settings" in todoku.refused(
        "account send-as grant bob carol@mailbox.example", 2
    )
    # She is gone, and so is what others had of her.
    assert f"bob@hoge.example may not send as {alice} any more." in todoku.done(f"account remove {alice}")
    assert todoku.json("account list")["accounts"][0]["send_as"] == []
