"""What a plan is made of: the resource, which knows how to look itself up, to say what would change, and to
make that change.

A resource is a frozen value computed from the settings alone. Everything that touches the world goes through
the client that it is handed (a host, a cloud client, a DNS publisher), so the first half is tested with
values and the second against real servers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

ClientT = TypeVar("ClientT")
SeenT = TypeVar("SeenT")


class Action(StrEnum):
    """What a change does to the thing that the resource describes."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between what is and what is wanted, as it is shown to a person."""

    action: Action
    summary: str  # one line: "replace /etc/postfix/main.cf", "restart: main.cf changes"
    detail: str = ""  # a unified diff, or more lines; never a secret


class ChangeFailed(Exception):
    """A change could not be made. The message names what was tried, what was found, and what to do."""


class Resource(ABC, Generic[ClientT, SeenT]):
    """One thing that has to exist in the cloud, in the DNS or on the host.

    Subclasses are frozen dataclasses. `id` names the thing within one plan ("file:/etc/mailname",
    "service:postfix"); `why` is the reason in one sentence, shown in the plan.
    """

    @property
    @abstractmethod
    def id(self) -> str: ...

    @property
    @abstractmethod
    def why(self) -> str: ...

    @property
    def needs(self) -> Set[str]:
        """The ids of the resources that have to be in place before this one is changed."""
        return frozenset()

    @property
    def watches(self) -> Set[str]:
        """The ids whose change makes this one change as well: a service its files. Each is a need as well.

        A resource that differs by itself gets only that one change, whatever it watches: bringing in the
        watched ones has to be part of it (a service that is not enabled is enabled *and* restarted).
        """
        return frozenset()

    @property
    def reads(self) -> Set[str]:
        """The ids that the plan looks up before this one, because of what they tell (Outputs).

        Mostly those are needs as well. What is only judged, and changes nothing, may read without needing.
        """
        return frozenset()

    @abstractmethod
    def look(self, client: ClientT) -> SeenT:
        """What is there now. Changes nothing; raises LookFailed, or NotYet when only time is lacking."""

    @abstractmethod
    def differ(self, seen: SeenT) -> Change | None:
        """What would have to change so that `seen` becomes what is wanted; None when nothing. Pure."""

    @abstractmethod
    def change(self, change: Change, client: ClientT) -> None:
        """Make that change, all of it or nothing; raises ChangeFailed, or NotYet when only time is lacking."""

    def triggered(self, by: Set[str]) -> Change:
        """The change that follows when the watched resources `by` are about to change."""
        return Change(Action.UPDATE, f"follows {', '.join(sorted(by))}")


class NotYet(Exception):
    """All that we can do is done, and it takes its time elsewhere. The message says what is waited for, and why.

    It is no failure: everything that does not need this resource goes on.
    """


class NeedsPerson(NotYet):
    """As NotYet, but time alone does not help: a person has to decide or to do something, as the message says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a person has to enter: `lines`, in the form of a file that is read at `place` (a DNS zone)."""

    place: str
    lines: tuple[str, ...]


class ByHand(NotYet):
    """As NotYet, and nothing was changed here: a person has to enter something elsewhere, and then it goes on."""

    def __init__(self, message: str, entry: Entry) -> None:
        super().__init__(message)
        self.entry = entry


class LookFailed(Exception):
    """The present state could not be read. The message names what was tried, what was found, what to do."""


class Impossible(LookFailed):
    """The present state cannot be read, and no change that the plan makes would help: a person has to."""


@dataclass(frozen=True, slots=True)
class Item:
    """A resource together with the client through which it is looked up and changed."""

    resource: Resource[Any, Any]
    client: Any
