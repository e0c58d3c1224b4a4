"""`todoku check`: would Gmail, Yahoo and Outlook take it, and if not, what is to be done."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from todoku.check.topic_names import TOPICS
from todoku.cli.cloud_parts import refuse
from todoku.cli.context import DONE, FAILED, USAGE, Context, fail, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from todoku.check.finding import Finding
    from todoku.check.means import Means
    from todoku.settings import Settings

app = typer.Typer(
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
OnlyProblems = Annotated[bool, typer.Option("--only-problems", help="Leave out what is as it has to be.")]


@app.callback(invoke_without_command=True)
def everything(ctx: typer.Context, as_json: Json = False, only_problems: OnlyProblems = False) -> None:
    """Would Gmail, Yahoo and Outlook take it, and if not, what is to be done. Without a topic: all of them."""
    if ctx.invoked_subcommand is None:
        _topics(ctx, tuple(TOPICS), as_json, only_problems)


@app.command("domain")
def domain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Any domain, also one that is none of yours.")],
    selector: Annotated[
        list[str] | None,
        typer.Option("--selector", help="The name of a DKIM key; can be given several times."),
    ] = None,
    as_json: Json = False,
    only_problems: OnlyProblems = False,
) -> None:
    """Look at what the world can see of any domain: zone, MX, SPF, DKIM, DMARC."""
    from todoku.check import runner, topics
    from todoku.check.means import Dns, Means
    from todoku.dns.lookups import Lookups, NotFound
    from todoku.settings.problems import WrongValueError
    from todoku.settings.values import domain_name

    begun = time.monotonic()
    try:
        means = Means(Dns(Lookups.of_system()))
        steps = topics.outside(domain_name(name), means, selector or ())
    except NotFound as problem:
        refuse(str(problem), FAILED, as_json=as_json)
    except WrongValueError as problem:
        refuse(f"{name} is no domain: {problem}", USAGE, as_json=as_json)
    report(runner.run(steps), begun, as_json, only_problems)


def _topic(name: str) -> None:
    def look(ctx: typer.Context, as_json: Json = False, only_problems: OnlyProblems = False) -> None:
        _topics(ctx, (name,), as_json, only_problems)

    app.command(name, help=f"Look at {TOPICS[name]}.")(look)


for _name in TOPICS:
    _topic(_name)


def _topics(ctx: typer.Context, names: Sequence[str], as_json: bool, only_problems: bool) -> NoReturn:
    from todoku.check import runner, topics

    begun = time.monotonic()
    context: Context = ctx.obj
    settings = context.settings()
    steps = topics.steps(settings, _means(settings, as_json), names)
    report(runner.run(steps), begun, as_json, only_problems)


def _means(settings: Settings, as_json: bool) -> Means:
    from todoku.check.means import Dns, Means
    from todoku.cli.desired import addresses
    from todoku.dns.lookups import Lookups, NotFound
    from todoku.host.client import Host
    from todoku.settings.credential import read

    try:
        lookups = Lookups.of_system(settings.dns.resolver if settings.dns else ())
    except NotFound as problem:
        refuse(str(problem), FAILED, as_json=as_json)
    cloud = None
    if settings.cloud is not None:
        from todoku.cloud.desired import connect
        from todoku.cloud.retry import Patience
        from todoku.plan.outputs import Outputs

        # Who looks does not wait as long as who changes something.
        cloud = replace(connect(settings, Outputs()), patience=Patience(tries=3, total=5.0))
    return Means(
        Dns(lookups),
        host=Host(),
        cloud=cloud,
        login=lambda: read(settings.relay, os.environ),
        addresses=addresses(settings),
    )


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
