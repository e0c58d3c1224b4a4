"""`todoku settings` says if the file is right, gives editors its schema, and people a file to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from click.testing import Result
from typer.testing import CliRunner

from todoku.cli.parts.context import Context
from todoku.cli.settings import app as settings_app
from todoku.settings import parse

app = typer.Typer()
app.add_typer(settings_app, name="settings")


@app.callback()
def options(ctx: typer.Context, config: Path = Path("/nowhere/todoku.toml")) -> None:
    ctx.obj = Context(config)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def last_line(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def test_a_right_file_is_ok_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "todoku.toml"
    file.write_text(run("settings", "example").stdout)
    result = run("--config", file, "settings", "check")
    assert result.exit_code == 0
    assert result.stdout == (
        f"OK {file}: mx.hoge.example, 1 domain (hoge.example), "
        "relay smtp.email.ap-tokyo-1.oci.oraclecloud.com port 587\n"
    )
    assert last_line(run("settings", "check", "--json", file)) == {"ok": True, "problems": []}


def test_a_wrong_file_is_explained_on_standard_error_with_code_2(tmp_path: Path) -> None:
    file = tmp_path / "todoku.toml"
    file.write_text(run("settings", "example").stdout.replace("ap-tokyo-1", "tokyo").replace("mx.", ""))
    result = run("settings", "check", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{file}:" in result.stderr
    assert 'did you mean "ap-tokyo-1"?' in result.stderr
    assert result.stderr.endswith("2 problems\n")


def test_problems_as_json_are_one_object_and_code_2(tmp_path: Path) -> None:
    file = tmp_path / "todoku.toml"
    file.write_text("hostname = 5\n")
    result = run("settings", "check", "--json", file)
    assert result.exit_code == 2
    said = last_line(result)
    assert said["ok"] is False
    assert said["problems"][0].keys() == {"file", "line", "key", "message", "fix"}
    assert {problem["key"] for problem in said["problems"]} == {
        "hostname",
        "addresses",
        "postmaster",
        "domains",
        "relay",
    }


def test_the_file_of_the_global_option_is_checked_and_its_absence_helps() -> None:
    result = run("settings", "check")
    assert result.exit_code == 2
    assert "/nowhere/todoku.toml: does not exist" in result.stderr
    assert "todoku settings example > /nowhere/todoku.toml" in result.stderr


def test_the_example_can_be_used_as_it_is_printed() -> None:
    printed = run("settings", "example").stdout
    assert parse(printed, "example").hostname == "mx.hoge.example"
    assert last_line(run("settings", "example", "--json")) == {"example": printed}


def test_the_schema_is_json_in_both_forms() -> None:
    printed = json.loads(run("settings", "schema").stdout)
    assert printed["title"] == "todoku.toml"
    assert last_line(run("settings", "schema", "--json")) == printed
