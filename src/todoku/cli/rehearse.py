"""`todoku rehearse`: the whole mail system in a throw-away copy of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from todoku.cli.parts.context import FAILED, USAGE, fail, print_json, require_root

# The built-in rehearsal begins with an empty tenancy and an empty zone.
_FROM_NOTHING = """
[cloud]
compartment = "ocid1.compartment.oc1..aaaaaaaaexample"
instance = "ocid1.instance.oc1.ap-tokyo-1.aaaaaaaaexample"

[dns]
publisher = "oci"
"""


def rehearse(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="Run this in the world instead of the scenario, and end with its code.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Rehearse this settings file (default: the built-in example)."),
    ] = None,
    root: Annotated[
        Path, typer.Option("--root", help="Use another root file system as the lower layer.")
    ] = Path("/"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the world running, and print how to enter it.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove the prepared layer that makes the next run warm.")
    ] = False,
) -> None:
    """Try it all in a throw-away copy of this machine, with an internet of its own.

    The production `todoku apply` runs there; then mail is sent, received and judged, and what must be refused is.
    Nothing is installed or changed on the machine itself; what the world needs is kept in /var/cache/todoku.
    Exit codes: 0 every expectation held, 1 not, 2 wrong usage or settings; with COMMAND, its own.
    """
    if clean:
        _clean(as_json=as_json)
        return
    require_root("todoku rehearse")
    if config is None and ctx.parent is not None:
        given = ctx.parent.get_parameter_source("config")
        # Only a file that was asked for: the installed one is not what a first rehearsal is about.
        config = (
            ctx.obj.config if given is not None and given.name in ("COMMANDLINE", "ENVIRONMENT") else None
        )
    from todoku.rehearsal import run
    from todoku.rehearsal.machine import machine
    from todoku.settings import SettingsError

    text, name = _settings(config)
    if not root.is_dir():
        fail(f"--root {root}: there is no such folder.", USAGE)
    try:
        code = run.run(
            run.Rehearsal(text, name, root.resolve(), tuple(command or ()), keep=keep, as_json=as_json)
        )
    except SettingsError as error:
        fail(str(error), USAGE)
    except machine.WorldImpossible as error:
        if as_json:
            print_json(
                {
                    "ok": False,
                    "seconds": 0.0,
                    "expectations": [{"name": "the world can be built", "ok": False, "seen": str(error)}],
                    "messages": [],
                }
            )
        fail(str(error), FAILED)
    raise typer.Exit(code)


def _settings(config: Path | None) -> tuple[str, str]:
    from todoku.settings.example import example

    if config is None:
        return example() + _FROM_NOTHING, "the built-in example"
    try:
        return config.read_text(encoding="utf-8"), str(config)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"--config {config}: {error}", USAGE)


def _clean(*, as_json: bool) -> None:
    from todoku.rehearsal.machine import layer

    require_root("todoku rehearse --clean")
    freed = layer.clean()
    if as_json:
        print_json({"freed": freed})
    else:
        print(f"Removed {layer.CACHE} ({freed // 1_000_000} MB).")
