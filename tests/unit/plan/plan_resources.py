"""Small real resources for the tests of the plan: files in a folder, and a daemon that reads them.

The client is the folder. Every change is also appended to the folder's `history`, so that a test can see what
happened, in which order and how often, across processes.
"""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

from todoku.plan.resource import Action, Change, Item, LookFailed, Resource


@dataclass(frozen=True)
class TextFile(Resource[Path, "str | None"]):
    """A file `name` in the folder that has to have the content `text`."""

    name: str
    text: str = "wanted\n"
    after: Set[str] = field(default_factory=frozenset)
    reason: str = "a test wants it"

    @property
    def id(self) -> str:
        return f"file:{self.name}"

    @property
    def why(self) -> str:
        return self.reason

    @property
    def needs(self) -> Set[str]:
        return self.after

    def look(self, client: Path) -> str | None:
        path = client / self.name
        return path.read_text() if path.exists() else None

    def differ(self, seen: str | None) -> Change | None:
        if seen == self.text:
            return None
        if seen is None:
            return Change(Action.CREATE, f"create {self.name}")
        return Change(Action.UPDATE, f"replace {self.name}", f"-{seen}+{self.text}")

    def change(self, _change: Change, client: Path) -> None:
        note(client, self.id)
        new = client / f".{self.name}.new"
        new.write_text(self.text)
        new.rename(client / self.name)


@dataclass(frozen=True)
class Daemon(Resource[Path, "bool"]):
    """Runs when the file `name.running` is there, and notes every restart in the history."""

    name: str
    files: Set[str] = field(default_factory=frozenset)

    @property
    def id(self) -> str:
        return f"service:{self.name}"

    @property
    def why(self) -> str:
        return "a test wants it"

    @property
    def watches(self) -> Set[str]:
        return self.files

    def look(self, client: Path) -> bool:
        return (client / f"{self.name}.running").exists()

    def differ(self, seen: bool) -> Change | None:
        return None if seen else Change(Action.RUN, f"start {self.name}")

    def triggered(self, by: Set[str]) -> Change:
        return Change(Action.RUN, f"restart {self.name}: {', '.join(sorted(by))}")

    def change(self, _change: Change, client: Path) -> None:
        note(client, self.id)
        (client / f"{self.name}.running").touch()


@dataclass(frozen=True)
class Silent(Daemon):
    """A daemon whose manager says nothing before the file `manager` is installed."""

    def look(self, client: Path) -> bool:
        if not (client / "manager").exists():
            raise LookFailed(f"cannot ask the manager about {self.name}: it is not installed")
        return super().look(client)


def note(folder: Path, line: str) -> None:
    with (folder / "history").open("a") as history:
        history.write(f"{line}\n")


def history(folder: Path) -> list[str]:
    path = folder / "history"
    return path.read_text().splitlines() if path.exists() else []


def items(folder: Path, *resources: Resource) -> list[Item]:
    return [Item(resource, folder) for resource in resources]


def die() -> None:
    """Die as with kill -9: no handler, no finally, nothing is flushed."""
    os.kill(os.getpid(), 9)
