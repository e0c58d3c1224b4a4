"""`todoku dns`: which records there have to be, which there are, and what to enter where."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from todoku.cli.parts.context import DONE, FAILED, USAGE, Context, fail, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from todoku.dns.client import Names
    from todoku.dns.overview import Row
    from todoku.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="DNS: which records there have to be, which there are, what to enter."
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
_WIDE = 220  # characters
_PAUSE = 5.0  # seconds between two looks


@app.command("show")
def show(ctx: typer.Context, as_json: _Json = False) -> None:
    """Show every record: what is published, what is wanted, what the world sees."""
    settings, rows, remarks = _looked(ctx)
    if as_json:
        print_json({"ok": True, "records": [_row_json(row) for row in rows], "remarks": remarks})
        return
    _print_table(rows)
    _print_remarks(rows, [*remarks, *_advice(settings)])


@app.command("check")
def check(
    ctx: typer.Context,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Look again until all is right, for so many seconds.")
    ] = 0.0,
    as_json: _Json = False,
) -> None:
    """Look whether all is right; what is not, with what to do. Exits with 1 when something is not."""
    deadline = time.monotonic() + wait
    while True:
        _, rows, remarks = _looked(ctx)
        wrong = [row for row in rows if not row.right]
        if not wrong or time.monotonic() >= deadline:
            break
        if not as_json:
            left = max(0, int(deadline - time.monotonic()))
            names = ", ".join(f"{row.name} {row.type} ({row.state.value})" for row in wrong)
            _say(
                f"{len(rows) - len(wrong)} of {len(rows)} are right; still waiting up to {left} s for: {names}"
            )
        time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))
    if as_json:
        print_json({"ok": not wrong, "records": [_row_json(row) for row in rows], "remarks": remarks})
    elif wrong:
        _print_table(wrong)
        _print_remarks(wrong, remarks)
        _say(f"{len(wrong)} of {len(rows)} record sets are not right.")
    else:
        _print_remarks(rows, remarks)
        _say(f"All {len(rows)} record sets are published, and the world sees them.")
    raise SystemExit(FAILED if wrong else DONE)


@app.command("zone")
def zone(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also what is published already.")] = False,
    as_json: _Json = False,
) -> None:
    """Print what has to be entered: as a zone file, and record by record for a web console."""
    from todoku.dns import zonefile
    from todoku.dns.overview import State
    from todoku.dns.text import plain

    settings, rows, remarks = _looked(ctx)
    done = (State.RIGHT, State.UNSEEN)
    # Where something is in the way, it has to be seen to first: the remarks say how.
    known = [row for row in rows if row.zone and row.state not in (State.LATER, State.WRONG)]
    to_do = [row for row in known if everything or row.state not in done]
    pastes = [
        (row, zonefile.paste(row.zone, row.name, row.type, plain(row.type, value), row.ttl))
        for row in to_do
        for value in row.wanted
        if everything or value not in row.published
    ]
    texts = {
        name: zonefile.render(
            name,
            [
                (row.name, row.type, plain(row.type, value), row.ttl, row.why)
                for row in to_do
                if row.zone == name
                for value in row.wanted
            ],
        )
        for name in dict.fromkeys(row.zone for row in to_do)
    }
    if as_json:
        forms = [{"zone": row.zone, "why": row.why, **asdict(paste)} for row, paste in pastes]
        print_json({"ok": True, "zones": texts, "records": forms, "remarks": remarks})
        return
    if not to_do:
        _say("Nothing has to be entered.")
    for text in texts.values():
        _say(text)
    for row, paste in pastes:
        _say(f"In the zone {row.zone}: {row.why}")
        for old in row.published if row.state is State.DIFFERENT else ():
            if old not in row.wanted:
                _say(f"  instead of: {old}")
        for line in paste.lines():
            _say(f"  {line}")
        _say("")
    _print_remarks(rows, [*remarks, *_advice(settings)])


def _looked(ctx: typer.Context) -> tuple[Settings, list[Row], list[str]]:
    """The settings, the records from all sides, and what could not be found out."""
    from todoku.dns import overview, records
    from todoku.dns.problems import RecordProblem
    from todoku.dns.publisher import PublisherFailed

    context: Context = ctx.obj
    settings = context.settings()
    if settings.dns is None:
        fail(
            f"{context.config} has no [dns] table, so that Todoku does not look at the DNS. Add one: [dns], and below "
            'it publisher = "manual"',
            USAGE,
        )
    remarks: list[str] = []
    try:
        client = _client(settings, remarks.append)
        return settings, overview.rows(client, records.all_records(settings)), remarks
    except (RecordProblem, PublisherFailed) as error:
        fail(str(error))


def _client(settings: Settings, remark: Callable[[str], object]) -> Names:
    """Look-ups and a publisher, with what the cloud tells about DKIM and return paths."""
    from todoku.dns.client import Names
    from todoku.plan.outputs import Outputs

    outputs = Outputs()
    if settings.cloud is not None:
        _ask_the_cloud(settings, outputs, remark)
    return Names.of(settings, outputs)


def _ask_the_cloud(settings: Settings, outputs: Any, remark: Callable[[str], object]) -> None:
    from todoku.cloud.desired import connect
    from todoku.cloud.dkim import DkimResource
    from todoku.cloud.errors import CloudError
    from todoku.cloud.return_path import ReturnPathResource
    from todoku.plan.resource import LookFailed, NotYet

    assert settings.cloud is not None  # noqa: S101
    try:
        cloud = connect(settings, outputs)
        for domain in settings.domains:
            DkimResource(domain=domain.name, reason="").look(cloud)
            if settings.cloud.return_path:
                ReturnPathResource(domain=domain.name, reason="").look(cloud)
    except (CloudError, LookFailed, NotYet) as error:
        remark(f"What the cloud wants to have published is not known: {error}")


def _advice(settings: Settings) -> list[str]:
    from todoku.dns import records

    return records.advice(settings)


def _print_table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=True)
    for title in ("record", "published", "wanted", "seen", "state"):
        table.add_column(title, overflow="fold")
    for row in rows:
        columns = [
            f"{row.name} {row.type}",
            *("\n".join(v) or "-" for v in (row.published, row.wanted, row.seen)),
        ]
        table.add_row(*map(_escaped, columns), row.state.value)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)  # what goes into a file or a pipe is not cut to a window
    console.print(table)


def _print_remarks(rows: Sequence[Row], remarks: Sequence[str]) -> None:
    for row in rows:
        for text in row.remarks:
            _say(f"! {row.name} {row.type}: {text}")
        for text in row.hints:
            _say(f"* {row.name} {row.type}: {text}")
    for text in remarks:
        _say(f"* {text}")


def _row_json(row: Row) -> dict[str, Any]:
    return {**asdict(row), "right": row.right}


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape("".join(c if c.isprintable() or c == "\n" else "?" for c in text))


def _say(text: str) -> None:
    print("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text), flush=True)
