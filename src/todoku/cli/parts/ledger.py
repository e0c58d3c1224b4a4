"""What the commands that ask the ledger share: opening it, and how times and states are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from todoku.cli.parts.context import FAILED, Context, require_root
from todoku.cli.parts.people import refuse

if TYPE_CHECKING:
    from sqlalchemy import Engine


@contextmanager
def opened(ctx: typer.Context, what: str, *, as_json: bool) -> Iterator[Engine]:
    """The ledger of this machine; what goes wrong is told, and ends the program."""
    context: Context = ctx.obj
    settings = context.settings()
    require_root(what)
    from todoku.store import StoreError, ledger

    try:
        engine = ledger.open(ledger.place_of(settings))
        yield engine
    except StoreError as error:
        refuse(str(error), FAILED, as_json=as_json)


def moment(seconds: float) -> str:
    """A time as people read it: of this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def span(seconds: float) -> str:
    """How long something took or takes: "3 s", "5 min", "2 h", "4 days"."""
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (seconds >= size and name != "days"):
            return f"{seconds / size:.0f} {name}"
    return f"{max(0, seconds):.0f} s"
