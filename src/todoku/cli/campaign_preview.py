"""`todoku campaign preview`: the message as one person gets it, as a file or in the browser."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from todoku.cli.parts.bulk import CampaignName, opened
from todoku.cli.parts.context import FAILED, USAGE, print_json
from todoku.cli.parts.people import Json, note, refuse, say

_MINUTES = 15


def preview(
    ctx: typer.Context,
    name: CampaignName,
    to: Annotated[
        str | None,
        typer.Option("--for", metavar="ADDRESS", help="As this subscriber gets it; else the first one."),
    ] = None,
    eml: Annotated[
        Path | None, typer.Option("--eml", help="Write it to this new file, which only root can read.")
    ] = None,
    in_browser: Annotated[
        bool, typer.Option("--browser", help="Show it in the browser of this machine, until Ctrl-C.")
    ] = False,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="With --browser: only print the page's address.")
    ] = False,
    minutes: Annotated[
        int | None,
        typer.Option(
            "--minutes", min=1, max=1440, help=f"With --browser: the page ends then; {_MINUTES} without."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the message as one person gets it (.eml), write it to a file, or show it in the browser."""
    from todoku.campaign import letters

    if not in_browser and (no_open or minutes is not None):
        refuse("--no-open and --minutes need --browser", USAGE, as_json=as_json)
    with opened(ctx, "a preview", as_json=as_json) as here:
        raw = letters.preview(here, name, to)
    if eml is not None:
        _write(eml, raw, as_json=as_json)
        print_json({"ok": True, "file": str(eml)}) if as_json else say(f"Written to {eml}.")
    if in_browser:
        _show(raw, _MINUTES if minutes is None else minutes, no_open=no_open, as_json=as_json)
    elif eml is None and as_json:
        print_json({"ok": True, "message": raw.decode("ascii")})
    elif eml is None:
        sys.stdout.buffer.write(raw)


def _write(path: Path, raw: bytes, *, as_json: bool) -> None:
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        refuse(f"{path} is there already, and is left as it is: name another file", FAILED, as_json=as_json)
    except OSError as error:
        refuse(f"{path} cannot be written: {error.strerror}", FAILED, as_json=as_json)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(raw)
    except OSError as error:
        path.unlink(missing_ok=True)
        refuse(f"{path} cannot be written: {error.strerror}", FAILED, as_json=as_json)


def _show(raw: bytes, minutes: float, *, no_open: bool, as_json: bool) -> None:
    import webbrowser

    from todoku.cli.parts import campaign_page

    end = time.monotonic() + minutes * 60
    try:
        with (
            campaign_page.served(campaign_page.answers(raw)) as address,
            campaign_page.doorway(address) as file,
        ):
            if as_json:
                print_json({"ok": True, "address": address})
            else:
                say(f"{address}\nThe page is there for {minutes:g} minutes, or until Ctrl-C.")
            if not no_open and not webbrowser.open(file):
                port = address.split("/")[2].rpartition(":")[2]
                note(
                    "no browser could be started here. From another machine, reach it through "
                    f"`ssh -L {port}:127.0.0.1:{port} ...`, and open the address there"
                )
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, 1.0))
    except KeyboardInterrupt:
        pass  # that is how it ends
    except OSError as error:
        refuse(f"the page cannot be shown: {error.strerror}", FAILED, as_json=as_json)
