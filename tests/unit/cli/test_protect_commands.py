# Before anything is sent, it can be asked what would happen, and which line of the settings is to blame.

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from todoku.cli.main import app

SETTINGS = """\
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[protect]
on = true
default = "zip"
[[protect.rules]]
mode = "pass"
recipients = "partner.example"
"""
EML = (
    "From: Alice <alice@hoge.example>\nSubject: {subject}\nMIME-Version: 1.0\n"
    "Content-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment; filename=a.pdf\n\nx\n"
)


def asked(folder: Path, recipient: str, *more: str, subject: str = "hi", settings: str = SETTINGS) -> str:
    (folder / "todoku.toml").write_text(settings)
    (folder / "a.eml").write_text(EML.format(subject=subject))
    arguments = [
        "--config",
        str(folder / "todoku.toml"),
        "protect",
        "explain",
        str(folder / "a.eml"),
        recipient,
    ]
    result = CliRunner().invoke(app, [*arguments, *more])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("recipient", "line", "why"),
    [
        ("carol@outside.example", 10, "protect.default"),
        ("eve@mail.partner.example", 11, "a rule for partner.example, [[protect.rules]] number 1"),
        ("bob@hoge.example", None, "the recipient's domain, which is yours"),
    ],
)
def test_the_line_that_decides_is_named(tmp_path: Path, recipient: str, line: int | None, why: str) -> None:
    told = asked(tmp_path, recipient)
    assert why in told
    assert (f"todoku.toml:{line}" in told) is (line is not None)
    assert json.loads(asked(tmp_path, recipient, "--json"))["line"] == line


def test_the_subject_and_the_switch_are_named(tmp_path: Path) -> None:
    told = asked(tmp_path, "eve@partner.example", subject="#zip hi")
    assert "encrypted ZIP" in told
    assert "the subject says #zip" in told
    told = asked(tmp_path, "eve@partner.example", settings=SETTINGS.replace("on = true", "on = false"))
    assert "protect.on, which is false" in told
