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
from todoku.cli.parts.cloud import refuse
from todoku.cli.parts.context import DONE, FAILED, USAGE, Context, print_json

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
def everything(
    ctx: typer.Context,
    as_json: Json = False,
    only_problems: OnlyProblems = False,
    to_postmaster: Annotated[
        bool,
        typer.Option(
            "--report", help="Have the postmaster told of what has changed, as it is done each day."
        ),
    ] = False,
) -> None:
    """Would Gmail, Yahoo and Outlook take it, and if not, what is to be done. Without a topic: all of them."""
    if ctx.invoked_subcommand is None:
        _topics(ctx, tuple(TOPICS), as_json, only_problems, to_postmaster=to_postmaster)


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
    """Look at what the world can see of any domain: zone, MX hosts and their TLS, SPF, DKIM, DMARC.

    Its MX hosts are asked at port 25 for STARTTLS; no mail is sent.
    """
    from todoku.check import mx_tls, runner, topics
    from todoku.check.means import Dns, Means
    from todoku.dns.lookups import Lookups, NotFound
    from todoku.settings.problems import WrongValueError
    from todoku.settings.values import domain_name

    begun = time.monotonic()
    try:
        means = Means(Dns(Lookups.of_system()))
        wanted = domain_name(name)
        steps = [*topics.outside(wanted, means, selector or ()), *mx_tls.steps(wanted, means)]
    except NotFound as problem:
        refuse(str(problem), FAILED, as_json=as_json)
    except WrongValueError as problem:
        refuse(f"that is no domain: it {problem}", USAGE, as_json=as_json)
    report(runner.run(steps), begun, as_json, only_problems)


def _topic(name: str) -> None:
    def look(ctx: typer.Context, as_json: Json = False, only_problems: OnlyProblems = False) -> None:
        _topics(ctx, (name,), as_json, only_problems)

    app.command(name, help=f"Look at {TOPICS[name]}.")(look)


for _name in TOPICS:
    _topic(_name)


def _topics(
    ctx: typer.Context,
    names: Sequence[str],
    as_json: bool,
    only_problems: bool,
    *,
    to_postmaster: bool = False,
) -> NoReturn:
    from todoku.check import runner, topics

    begun = time.monotonic()
    context: Context = ctx.obj
    settings = context.settings()
    findings = runner.run(topics.steps(settings, _means(settings, as_json), names))
    if to_postmaster:
        from todoku.cli.services import daily_check

        try:
            daily_check.report(findings)
        except OSError as problem:
            refuse(
                f"the agent cannot be told ({problem}): run `todoku apply` first, as root",
                USAGE,
                as_json=as_json,
            )
    report(findings, begun, as_json, only_problems, brief=len(names) > 1)


def _means(settings: Settings, as_json: bool) -> Means:
    from todoku.check.means import Dns, Means
    from todoku.cli.parts.desired import addresses, forwards
    from todoku.dns.lookups import Lookups, NotFound
    from todoku.host.client import Host
    from todoku.settings.credential import read

    try:
        lookups = Lookups.of_system(settings.dns.resolver if settings.dns else ())
    except NotFound as problem:
        refuse(str(problem), FAILED, as_json=as_json)
    cloud, suppressed, limits = None, None, None
    if settings.cloud is not None:
        from functools import partial

        from todoku.cloud import limits as quota
        from todoku.cloud.desired import connect
        from todoku.cloud.retry import Patience
        from todoku.cloud.suppressions import Suppressions
        from todoku.plan.outputs import Outputs

        # Who looks does not wait as long as who changes something.
        cloud = replace(connect(settings, Outputs()), patience=Patience(tries=3, total=5.0))
        suppressed, limits = Suppressions.of(settings).all, partial(quota.read, settings)
    return Means(
        Dns(lookups),
        host=Host(),
        cloud=cloud,
        login=lambda: read(settings.relay, os.environ),
        addresses=addresses(settings),
        forwards=forwards(settings),
        suppressions=suppressed,
        limits=limits,
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
    raw = _read(file, judge.LARGEST, as_json)
    report(judge.look(raw, datetime.now(UTC), is_bulk=bulk), begun, as_json, only_problems)


@app.command("send")
def send(
    ctx: typer.Context,
    to: Annotated[
        str | None,
        typer.Argument(metavar="ADDRESS", help="Your own mailbox at a provider, as you@gmail.com."),
    ] = None,
    received: Annotated[
        str | None,
        typer.Option(
            "--received", metavar="FILE", help='A received message to explain; "-" for standard input.'
        ),
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="Who sends; the postmaster if left out.")
    ] = None,
    imap: Annotated[
        str | None, typer.Option("--imap", metavar="HOST", help="Fetch it from there, as imap.gmail.com.")
    ] = None,
    imap_user: Annotated[
        str | None, typer.Option("--imap-user", metavar="USER", help="The login there; ADDRESS if left out.")
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds that it may take to arrive there.")
    ] = 120.0,
    as_json: Json = False,
    only_problems: OnlyProblems = False,
) -> None:
    """Send a message to your mailbox at a provider, and explain what the provider wrote into it.

    With --imap it is fetched, and the password is asked for (an app password, where the provider has such). Without,
    save its source to a file, and have that explained with --received.
    """
    from todoku.check import received as judge
    from todoku.check.message import LARGEST

    begun = time.monotonic()
    if (to is None) == (received is None):
        refuse("name either an ADDRESS to send to, or a message with --received", USAGE, as_json=as_json)
    if received is not None:
        report(judge.look(_read(received, LARGEST, as_json)), begun, as_json, only_problems)
    assert to is not None  # noqa: S101 - one of them was given
    message_id = _sent(ctx, to, sender, as_json)
    if imap is None:
        words = (
            f"Sent to {to}. When it has arrived, save its source to a file, then: todoku check send --received FILE. "
            "If it does not arrive, look for a bounce in the sender's mailbox, and have it explained: todoku explain"
        )
        if as_json:
            print_json({"ok": True, "message_id": message_id, "next": "todoku check send --received FILE"})
        else:
            print(words)
        return
    folder, raw = _fetched(imap, imap_user or to, message_id, wait, as_json)
    report(judge.look(raw, folder), begun, as_json, only_problems)


def _sent(ctx: typer.Context, to: str, sender: str | None, as_json: bool) -> str:
    """Send a probe, and return its Message-ID."""
    from datetime import UTC, datetime

    from todoku.check import send as sending
    from todoku.host.client import Host, HostError
    from todoku.settings.problems import WrongValueError
    from todoku.settings.values import mail_address

    context: Context = ctx.obj
    settings = context.settings()
    try:
        recipient = mail_address(to)
        who = mail_address(sender) if sender else settings.postmaster
    except WrongValueError as problem:
        refuse(f"that is no address: it {problem}", USAGE, as_json=as_json)
    if not settings.is_own(who):
        refuse(
            f"{who} is not within one of the domains, and the relay would refuse it", USAGE, as_json=as_json
        )
    probe = sending.compose(who, recipient, datetime.now(UTC))
    try:
        sending.submit(Host(), probe, who, recipient)
    except HostError as problem:
        refuse(str(problem), FAILED, as_json=as_json)
    return probe.message_id


def _fetched(imap: str, user: str, message_id: str, wait: float, as_json: bool) -> tuple[str, bytes]:
    from getpass import getpass

    from todoku.check.send import Mailbox, SendFailed

    # Never an argument: those are seen by everybody on the machine.
    password = (
        getpass(f"Password of {user} at {imap}: ")
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\n")
    )
    try:
        found = Mailbox(imap, user, password).find(message_id, wait, time.monotonic, time.sleep)
    except SendFailed as problem:
        refuse(str(problem), FAILED, as_json=as_json)
    if found is None:
        refuse(
            f"it did not arrive within {wait:g} s. Look for a bounce in the sender's mailbox and have it explained "
            "(todoku explain), and at what waits here (todoku check host)",
            FAILED,
            as_json=as_json,
        )
    return found


def report(
    findings: Sequence[Finding], begun: float, as_json: bool, only_problems: bool, *, brief: bool = False
) -> NoReturn:
    """Print what was found, and end with 1 when something has failed."""
    from todoku.check import providers, show
    from todoku.check.finding import is_failed

    judgements = providers.judge(findings)
    if as_json:
        told = show.as_json(findings, judgements, time.monotonic() - begun)
        if only_problems:
            told["findings"] = show.as_entries(findings, only_problems=True)
        print_json(told)
    else:
        for line in show.lines(findings, judgements, only_problems=only_problems, brief=brief):
            print(line)
    raise SystemExit(FAILED if is_failed(findings) else DONE)


def _read(file: str, most: int, as_json: bool) -> bytes:
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(most + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(most + 1)
    except OSError as problem:
        refuse(f"{file} cannot be read: {problem.strerror or problem}", USAGE, as_json=as_json)
    if len(raw) > most:
        refuse(f"{file} has more than {most:,} bytes: no provider takes that", FAILED, as_json=as_json)
    return raw
