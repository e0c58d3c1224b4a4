"""`todoku plan` and `todoku apply` on a folder instead of a machine.

The commands are the real ones. What is wanted comes from the scenario that the folder's file `scenario`
names, made of the small resources of the plan's own tests. Run as: plan_app.py FOLDER plan|apply ...
"""

from __future__ import annotations

import errno
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))

from plan_resources import Daemon, Silent, TextFile, items

from todoku.cli import plan as commands
from todoku.cli.parts import desired
from todoku.plan.resource import ByHand, Entry
from todoku.settings.credential import CredentialError


@dataclass(frozen=True)
class Full(TextFile):
    def change(self, _change, client):
        raise OSError(errno.ENOSPC, "No space left on device", str(client / self.name))


@dataclass(frozen=True)
class Wrong(TextFile):
    def change(self, _change, _client):
        raise KeyError("a mistake of ours")


@dataclass(frozen=True)
class Held(TextFile):
    """Says that it runs through the file `running`, and ends when the file `go` is there."""

    def change(self, change, client):
        (client / "running").touch()
        for _ in range(1000):
            if (client / "go").exists():
                break
            time.sleep(0.02)
        super().change(change, client)


@dataclass(frozen=True)
class Entered(TextFile):
    """A file that only a person makes, in two lines that have to be told."""

    def change(self, _change, _client):
        raise ByHand(
            f"the file {self.name} has to be entered by hand:\n  with {self.text}",
            Entry("home", (self.name,)),
        )


def no_credential(_folder):
    raise CredentialError("/etc/todoku/secrets/relay does not exist: write it")


SCENARIOS = {
    "good": lambda folder: [
        lambda: items(folder, TextFile("a")),
        lambda: items(folder, TextFile("b", after={"file:a"}), Daemon("mail", {"file:b"})),
    ],
    "full": lambda folder: [
        lambda: items(folder, TextFile("a"), Full("b", after={"file:a"}), Daemon("c", {"file:b"}))
    ],
    "wrong": lambda folder: [lambda: items(folder, Wrong("a"))],
    "silent": lambda folder: [lambda: items(folder, Silent("mail"), TextFile("a"))],
    "circle": lambda folder: [lambda: items(folder, TextFile("a", after={"file:a"}))],
    "held": lambda folder: [lambda: items(folder, Held("a"), TextFile("b", after={"file:a"}))],
    "by hand": lambda folder: [
        lambda: items(folder, TextFile("a"), Entered("one", "wanted\n"), Entered("two", "wanted\n"))
    ],
    "no credential": no_credential,
}


@dataclass(frozen=True)
class Folder:
    """Stands in the place of the context with its settings file."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "todoku.toml"

    def settings(self) -> Path:
        return self.path


def app(folder: Path) -> typer.Typer:
    class Desired:
        def __init__(self, settings, *_rest):
            self.stages = lambda: SCENARIOS[(settings / "scenario").read_text()](settings)
            self.notes = lambda: ()

    desired.Desired = Desired
    commands._PAUSE = 0.1
    commands.LOCK = folder / "run" / "apply.lock"
    commands.JOURNAL = folder / "run" / "apply.journal"
    made = typer.Typer(pretty_exceptions_enable=False)

    @made.callback()
    def options(ctx: typer.Context) -> None:
        ctx.obj = Folder(folder)

    made.command()(commands.plan)
    made.command()(commands.apply)
    return made


if __name__ == "__main__":
    os.geteuid = lambda: 0  # the folder needs no root
    app(Path(sys.argv.pop(1)))()
