"""`todoku check`: would Gmail, Yahoo and Outlook take it, and if not, what is to be done."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from todoku.cli.context import DONE, FAILED, USAGE, fail, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from todoku.check.finding import Finding

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Would Gmail, Yahoo and Outlook take it, and if not, what is to be done.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
OnlyProblems = Annotated[bool, typer.Option("--only-problems", help="Leave out what is as it has to be.")]


@app.command("message")
def message(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help='The message as a file (.eml); "-" for standard input.')
    ],
    bulk: Annotated[
        bool | None,
        typer.Option("--bulk/--no-bulk", help="Whether it is a mailing; its headers decide if left out."),
    ] = None,
    as_json: Json = False,
    only_problems: OnlyProblems = False,
) -> None:
    """Look at one message, without asking the network: is it one that providers take?"""
    from datetime import UTC, datetime

    from todoku.check import message as judge

    begun = time.monotonic()
    raw = _read(file, judge.LARGEST)
    report(judge.look(raw, datetime.now(UTC), is_bulk=bulk), begun, as_json, only_problems)


def report(findings: Sequence[Finding], begun: float, as_json: bool, only_problems: bool) -> NoReturn:
    """Print what was found, and end with 1 when something has failed."""
    from todoku.check import providers, show
    from todoku.check.finding import is_failed

    judgements = providers.judge(findings)
    if as_json:
        told = show.as_json(findings, judgements, time.monotonic() - begun)
        if only_problems:
            told["findings"] = [finding.as_json() for finding in show.problems(findings)]
        print_json(told)
    else:
        for line in show.lines(findings, judgements, only_problems=only_problems):
            print(line)
    raise SystemExit(FAILED if is_failed(findings) else DONE)


def _read(file: str, most: int) -> bytes:
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(most + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(most + 1)
    except OSError as problem:
        fail(f"{file} cannot be read: {problem.strerror or problem}", USAGE)
    if len(raw) > most:
        fail(f"{file} has more than {most:,} bytes: no provider takes that", FAILED)
    return raw
