"""What the commands of bulk mail share: opening its database, and telling what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts.context import FAILED, USAGE, Context, require_root
from todoku.cli.parts.people import refuse

if TYPE_CHECKING:
    from todoku.campaign.opened import Opened

ListName = Annotated[str, typer.Argument(metavar="LIST", help="The list's name.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The person's address.")]
CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]


def seconds(text: str, *, as_json: bool) -> float:
    """Of "30m", "4h" or "1d"."""
    found = re.fullmatch(r"(\d{1,4})([mhd])", text)
    if found is None:
        refuse(f'"{text}" is no time: write it as 30m, 4h or 1d', USAGE, as_json=as_json)
    return int(found[1]) * {"m": 60.0, "h": 3600.0, "d": 86_400.0}[found[2]]


@contextmanager
def opened(ctx: typer.Context, what: str, *, as_json: bool) -> Iterator[Opened]:
    """Bulk mail's database of this machine; what goes wrong is told, and ends the program."""
    context: Context = ctx.obj
    settings = context.settings()
    require_root(what)
    if settings.campaign is None:
        refuse(
            "the settings have no [campaign] table: write one (`todoku settings example`), then `todoku apply`",
            USAGE,
            as_json=as_json,
        )
    from todoku.campaign.errors import CampaignError
    from todoku.campaign.opened import open_campaigns
    from todoku.store import StoreError

    try:
        yield open_campaigns(settings)
    except (CampaignError, StoreError) as error:
        refuse(str(error), FAILED, as_json=as_json)
