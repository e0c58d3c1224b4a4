"""`todoku init`: five questions at most, the rest is found out; ends with a settings file and the next step."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from todoku.cli.parts.context import FAILED, USAGE, Context, print_json, require_root
from todoku.cli.parts.people import note, refuse, say

if TYPE_CHECKING:
    from todoku.cli.parts.init_answers import Answers
    from todoku.host.client import Host
    from todoku.host.instance import Instance
    from todoku.host.outlook import Finding

_API_KEY = "/root/.oci/config"


def init(
    ctx: typer.Context,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers", metavar="FILE", help="Take the answers from this file (toml); ask nothing."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Ask five questions at most, find out the rest, and write a commented settings file. Changes nothing else.

    A file that is there is never overwritten. Tells what will hurt on this machine, and the next step.
    """
    from todoku.cli.parts import init_answers
    from todoku.host import facts, instance, outlook
    from todoku.host.client import Host

    context: Context = ctx.obj
    require_root("todoku init")
    if os.path.lexists(context.config):
        refuse(
            f"{context.config} is there already, and is never overwritten: edit it, then `todoku settings "
            "check`; or move it away and begin again",
            FAILED,
            as_json=as_json,
        )
    host, here = Host(), instance.ask()
    try:
        given = _from_file(answers) if answers else _asked(here, host, as_json=as_json)
        has_api_key = host.stat(_API_KEY) is not None
        known = init_answers.complete(given, here, has_api_key=has_api_key)
    except init_answers.AnswerError as error:
        refuse(f"{f'{answers}: ' if answers else ''}{error}", USAGE, as_json=as_json)
    if not known.addresses:
        known = _with_addresses(known, host, as_json=as_json)
    _write(context.config, known, as_json=as_json)
    addresses = [ip_address(address) for address in known.addresses]
    findings = [*outlook.of_the_machine(host, addresses), *_of_the_network(known)]
    by_hand = list(init_answers.still_by_hand(known))
    _tell(context.config, known, facts.system(host)[0], findings, by_hand, as_json=as_json)


def _from_file(file: Path) -> dict[str, Any]:
    from todoku.cli.parts.init_answers import AnswerError, read

    try:
        return read(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AnswerError(f"cannot be read: {error}") from error


def _asked(here: Instance | None, host: Host, *, as_json: bool) -> dict[str, Any]:
    """The answers of whoever sits at the terminal. A wrong one is explained, and asked for again."""
    from todoku.cli.parts.init_answers import QUESTIONS, AnswerError, checked

    if as_json or not sys.stdin.isatty():
        why = "--json cannot ask" if as_json else "there is no terminal to ask at"
        refuse(f"{why}: write the answers into a file, and use --answers FILE", USAGE, as_json=as_json)
    given: dict[str, Any] = {}
    for number, question in enumerate(QUESTIONS, start=1):
        say(f"\n{number} of {len(QUESTIONS)}. {question.why}")
        proposed = _proposal(question.key, given, here, host)
        while question.key not in given:
            try:
                given[question.key] = checked(question, typer.prompt(question.ask, default=proposed or None))
            except AnswerError as error:
                note(str(error))
            except typer.Abort:
                refuse("\nnothing was written", FAILED, as_json=as_json)
    return given


def _proposal(key: str, given: dict[str, Any], here: Instance | None, host: Host) -> str:
    """What is most likely the answer; empty where nothing speaks for any."""
    if key == "hostname":
        own = host.text("/etc/hostname").strip().lower()
        return own if own.endswith(f".{given['domain']}") else f"mx.{given['domain']}"
    if key == "region" and here is not None:
        return here.region
    if key == "dns":
        return "oci" if here is not None and here.compartment else "manual"
    if key == "postmaster" and (who := os.environ.get("SUDO_USER", "").lower()) not in ("", "root"):
        return f"{who}@{given['domain']}"
    return ""


def _with_addresses(known: Answers, host: Host, *, as_json: bool) -> Answers:
    from dataclasses import replace

    from todoku.cli.parts import init_answers
    from todoku.host import outlook

    found = outlook.public_addresses(host, known.hostname)
    if not found:
        refuse(
            f"no public address was found: this machine has only private ones, and {known.hostname} has none in "
            "the DNS. Enter its A record and begin again, or put this, with the right address, into a file, and use "
            f"--answers FILE:\n\n{init_answers.as_file(known)}",
            FAILED,
            as_json=as_json,
        )
    return replace(known, addresses=tuple(map(str, found)))


def _write(config: Path, known: Answers, *, as_json: bool) -> None:
    """The file, whole or not at all; checked before it is written."""
    from todoku.cli.parts import init_answers
    from todoku.settings import SettingsError, parse
    from todoku.settings.example import example

    text = example(init_answers.settings(known))
    try:
        parse(text, str(config))
    except SettingsError as error:
        wrong = "\n".join(f"{each.key}: {each.message}: {each.fix}" for each in error.problems)
        refuse(f"these answers do not fit together:\n{wrong}", USAGE, as_json=as_json)
    partial = config.with_name(f".{config.name}.init")
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.link(partial, config)  # never replaces what came into being meanwhile, as a rename would
    except OSError as error:
        refuse(f"{config} could not be written: {error.strerror}", FAILED, as_json=as_json)
    finally:
        partial.unlink(missing_ok=True)


def _of_the_network(known: Answers) -> Iterator[Finding]:
    from todoku.host import outlook
    from todoku.settings.regions import REGIONS

    relay = REGIONS[known.region].relay_host
    if relay is not None:
        addresses = [ip_address(address) for address in known.addresses]
        yield from outlook.of_the_network(known.hostname, addresses, relay)


def _tell(
    config: Path, known: Answers, system: str, findings: list[Finding], by_hand: list[str], *, as_json: bool
) -> None:
    following = "todoku settings check && todoku plan"
    if as_json:
        told = [
            {"rule": each.rule, "hurts": each.hurts, "seen": each.seen, "advice": each.advice}
            for each in findings
        ]
        found = {
            "system": system,
            "addresses": known.addresses,
            "compartment": known.compartment,
            "instance": known.on_instance,
        }
        answer = {"ok": True, "file": str(config), "found": found, "findings": told, "by_hand": by_hand}
        print_json(answer | {"next": following})
        return
    say(f"\nWritten: {config}")
    say(f"Found: {system}")
    say(f"Found: the public address {', '.join(known.addresses)}")
    if not any(each.rule == "port.taken" for each in findings):
        say("Found: ports 25, 465, 587 and 993 are free, or Postfix and Dovecot have them")
    if known.on_instance:
        say(f"Found: this is an instance of Oracle's cloud, in the compartment {known.compartment}")
    for each in findings:
        say(f"{'This will hurt' if each.hurts else 'Good to know'}: {each.seen}: {each.advice}.")
    say("Whether the world reaches port 25 here cannot be seen from inside: try it from another network.")
    for step in by_hand:
        say(f"By hand: {step}.")
    say(f"Next: {following}")
