"""What locks a backup and opens it again: a passphrase or keys of age. Never given as arguments, which others see."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from todoku.cli.parts.context import FAILED, USAGE
from todoku.cli.parts.people import refuse

_SHORTEST = 12  # characters: whoever has the file can try as often as he likes
_LARGEST = 100_000  # bytes

PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="The passphrase is in this file, root's alone."),
]


def passphrase(file: Path | None, *, new: bool, as_json: bool) -> str:
    """The passphrase from its file, or typed at the terminal: twice when it is new."""
    if file is not None:
        return _long_enough(secret(file, as_json=as_json).strip("\r\n"), new=new, as_json=as_json)
    if as_json or not sys.stdin.isatty():
        other = "--recipient, or --passphrase-file" if new else "--identity, or --passphrase-file"
        refuse(f"there is no terminal to type a passphrase at: use {other}", USAGE, as_json=as_json)
    confirmation = "The same once more" if new else False
    try:
        typed = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirmation, err=True)
    except (typer.Abort, UnicodeDecodeError):
        refuse("\nnothing was done: no passphrase was typed", FAILED, as_json=as_json)
    return _long_enough(str(typed), new=new, as_json=as_json)


def secret(file: Path, *, as_json: bool) -> str:
    """The text of a file that nobody but its owner can read."""
    try:
        with file.open("rb") as opened:
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                refuse(
                    f"{file} can be read by others than its owner: chmod 600 {file}", USAGE, as_json=as_json
                )
            return opened.read(_LARGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{file} cannot be read: {error}", USAGE, as_json=as_json)


def _long_enough(text: str, *, new: bool, as_json: bool) -> str:
    if not text or (new and len(text) < _SHORTEST):
        refuse(
            f"the passphrase has less than {_SHORTEST} characters: take some words", USAGE, as_json=as_json
        )
    return text
