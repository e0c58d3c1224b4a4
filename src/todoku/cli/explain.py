"""`todoku explain`: what a reply of a mail server means, and whose move it is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from todoku.cli.parts.context import DONE, FAILED, USAGE, fail, print_json


def explain(
    reply: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REPLY",
            help='The reply, as "550 5.7.26 ..."; without it, or with "-", a reply, lines of a log or a whole '
            "bounce are read from standard input.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")
    ] = False,
) -> None:
    """Say what a mail server's reply means, whose move it is, and where that is written."""
    from todoku.check import explain as judge
    from todoku.check.show import printable

    given = " ".join(reply or ())
    text = given if given not in ("", "-") else _standard_input()
    found = judge.explain(text)
    known = bool(found) and all(each.id for each in found)
    if as_json:
        print_json({"ok": known, "replies": [each.as_json() for each in found]})
    elif not found:
        fail(
            "there is nothing to explain in that: give a reply, as in: todoku explain '550 5.7.26 ...'", USAGE
        )
    for number, each in enumerate(() if as_json else found):
        if number:
            print()
        for line in judge.shown(each):
            print(printable(line))
    raise SystemExit(DONE if known else FAILED)


def _standard_input() -> str:
    if sys.stdin.isatty():
        print("Paste the reply or the bounce, then Ctrl-D:", file=sys.stderr)
    return sys.stdin.buffer.read(4 * 1024 * 1024).decode("utf-8", "replace")
