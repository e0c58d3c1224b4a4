# The command line answers at once, and every command speaks JSON to programs.

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from todoku import __version__
from todoku.cli.main import app


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def test_help_imports_nothing_heavy() -> None:
    # `todoku --help` has to answer within 0.2 s: this is what would make it slow.
    heavy = ("alembic", "argon2", "cryptography", "jinja2", "pydantic", "rich", "sqlalchemy", "oci", "dns")
    script = (
        "import sys\nfrom todoku.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_speaks_json_and_explains_itself(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    # The container's first process answers nobody: it says to `docker logs` what its programs say.
    assert "--json" in options or name == "container start"
    assert COMMANDS[name].help


def _todoku(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = "from todoku.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


def test_the_version_is_said() -> None:
    assert _todoku("--version").stdout == f"todoku {__version__}\n"


@pytest.mark.parametrize("arguments", [["no-such-command"], ["plan", "--no-such-option"], ["--config"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    done = _todoku(*arguments)
    assert done.returncode == 2
    assert "Error" in done.stderr


def test_with_json_settings_errors_are_json_too() -> None:
    done = _todoku("--config", "/nonexistent/todoku.toml", "plan", "--json")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert not told["ok"]
    assert "/nonexistent/todoku.toml" in told["problems"][0]["file"]


def test_a_missing_settings_file_is_2_and_says_how_to_get_one() -> None:
    done = _todoku("--config", "/nonexistent/todoku.toml", "plan")
    assert done.returncode == 2
    assert "todoku settings example" in done.stderr
