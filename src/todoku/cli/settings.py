"""`todoku settings`: is the file right, what can be in it, and an example to begin with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts.context import USAGE, Context, print_json

if TYPE_CHECKING:
    from todoku.settings import Settings

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The settings file: check it, its schema for editors, an example.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line.")]


@app.command()
def check(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="The file to check instead of the one of --config.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the settings file: says OK, or everything that is wrong with it (exit code 2)."""
    from todoku.settings import SettingsError, load

    context: Context = ctx.obj
    path = file or context.config
    try:
        settings = load(path)
    except SettingsError as error:
        if as_json:
            print_json({"ok": False, "problems": [problem.as_json() for problem in error.problems]})
        else:
            print(error, file=sys.stderr)
            print(_count(len(error.problems), "problem"), file=sys.stderr)
        raise SystemExit(USAGE) from None
    if as_json:
        print_json({"ok": True, "problems": []})
    else:
        print(f"OK {path}: {_summary(settings)}")


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of the settings file, for editors (Even Better TOML, taplo)."""
    from todoku.settings import schema as settings_schema

    if as_json:
        print_json(settings_schema.schema())
    else:
        print(json.dumps(settings_schema.schema(), ensure_ascii=False, indent=2))


@app.command()
def example(as_json: AsJson = False) -> None:
    """Print a complete, commented settings file to begin with."""
    from todoku.settings import example as settings_example

    text = settings_example.example()
    if as_json:
        print_json({"example": text})
    else:
        print(text, end="")


def _summary(settings: Settings) -> str:
    domains = ", ".join(domain.unicode for domain in settings.domains[:3])
    more = ", ..." if len(settings.domains) > 3 else ""
    return (
        f"{settings.hostname}, {_count(len(settings.domains), 'domain')} ({domains}{more}), "
        f"relay {settings.relay.hostname} port {settings.relay.port}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
