"""What a rule may decide: pass, change, refuse, or hold back for now; and the changes there are.

Values that cannot be sent (a 2xx refusal, a header name with a space) are errors where they are made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

_HEADER_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 2.2: printable US-ASCII except colon
_BREAKS_OUT = re.compile(r"\0|\r(?!\n)|\n(?![ \t])")  # what would start a header of its own
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}")  # RFC 3463 2


class _NamedHeader:
    __slots__ = ()
    name: str

    def __post_init__(self) -> None:
        if not _HEADER_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a header name")


class _HeaderWithValue(_NamedHeader):
    __slots__ = ()
    value: str

    def __post_init__(self) -> None:
        _NamedHeader.__post_init__(self)
        if _BREAKS_OUT.search(self.value):
            raise ValueError(
                f"{self.value!r} is not a header value: a line break without a space after it, or a NUL"
            )


class _Address:
    __slots__ = ()
    address: str

    def __post_init__(self) -> None:
        if not self.address.isprintable():
            raise ValueError(f"{self.address!r} is not an address")


@dataclass(frozen=True, slots=True)
class AddHeader(_HeaderWithValue):
    """Below all others."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class InsertHeader(_HeaderWithValue):
    """Above all others, the mail server's own Received included (where trace fields belong)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ChangeHeader(_HeaderWithValue):
    """Another value for the `nth` header of that name, from 1; one that is not there is an error."""

    name: str
    value: str
    nth: int = 1

    def __post_init__(self) -> None:
        _HeaderWithValue.__post_init__(self)
        if not self.value.strip():
            raise ValueError(
                f"{self.value!r} is not a value to change {self.name} to: DeleteHeader removes it"
            )


@dataclass(frozen=True, slots=True)
class DeleteHeader(_NamedHeader):
    """Without `nth`: all of that name."""

    name: str
    nth: int | None = None


@dataclass(frozen=True, slots=True)
class ChangeSender(_Address):
    """Another envelope sender, without angle brackets; "" is the null sender."""

    address: str


@dataclass(frozen=True, slots=True)
class AddRecipient(_Address):
    address: str


@dataclass(frozen=True, slots=True)
class DeleteRecipient(_Address):
    address: str


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    body: bytes


Modification: TypeAlias = (
    AddHeader
    | InsertHeader
    | ChangeHeader
    | DeleteHeader
    | ChangeSender
    | AddRecipient
    | DeleteRecipient
    | ReplaceBody
)


@dataclass(frozen=True, slots=True)
class Pass:
    """This rule has nothing to say."""


@dataclass(frozen=True, slots=True)
class Change:
    """The message goes on, changed. Later rules see it as changed; the mail server is told at the end."""

    modifications: Sequence[Modification]


class _Negative:
    __slots__ = ()
    code: int
    enhanced: str
    words: str
    kind: int

    def __post_init__(self) -> None:
        match = _ENHANCED.fullmatch(self.enhanced)
        if self.code // 100 != self.kind or not match or int(match[1]) != self.kind:
            raise ValueError(f"{self.code} {self.enhanced} is not a reply that starts with {self.kind} twice")


@dataclass(frozen=True, slots=True)
class Refuse(_Negative):
    """No, for good: 5xx. `words` tell the sender what is wrong and what to do."""

    code: int
    enhanced: str
    words: str
    kind = 5


@dataclass(frozen=True, slots=True)
class HoldBack(_Negative):
    """Not now: 4xx. The sender's mail server keeps the message and tries again."""

    code: int
    enhanced: str
    words: str
    kind = 4


Verdict: TypeAlias = Refuse | HoldBack
Decision: TypeAlias = Pass | Change | Refuse | HoldBack

PASS = Pass()
