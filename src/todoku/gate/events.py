"""What a mail server tells a milter, as typed values.

The names follow the SMTP dialogue. Text is decoded as UTF-8 with `surrogateescape`, so every byte a client sent
survives the way through a rule and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


@dataclass(frozen=True, slots=True)
class Negotiate:
    """The opening: the peer's protocol version, the actions it permits and the protocol steps it can vary."""

    version: int
    actions: int
    steps: int


@dataclass(frozen=True, slots=True)
class Macros:
    """Values of the mail server's macros, sent ahead of the event `command`. Names come without braces."""

    command: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Connect:
    """An SMTP client connected. `family` is "4", "6", "L" (local socket) or "U" (unknown: no port, no address)."""

    hostname: str
    family: str
    port: int
    address: str


@dataclass(frozen=True, slots=True)
class Helo:
    name: str


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM. `sender` is as given, with or without angle brackets; Postfix sends "" or "<>" for the null one."""

    sender: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rcpt:
    recipient: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Data:
    pass


@dataclass(frozen=True, slots=True)
class Unknown:
    """An SMTP command the mail server does not know."""

    command: str


class Header(NamedTuple):
    """One header field; lines of a folded value are joined by "\\n". (A tuple: there are many of them.)"""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class EndOfHeaders:
    pass


@dataclass(frozen=True, slots=True)
class Body:
    chunk: bytes


@dataclass(frozen=True, slots=True)
class EndOfMessage:
    """The end of the message; some mail servers send the last piece of the body with it."""

    chunk: bytes


@dataclass(frozen=True, slots=True)
class Abort:
    """The message is over, whatever came of it; the connection goes on."""


@dataclass(frozen=True, slots=True)
class Quit:
    pass


@dataclass(frozen=True, slots=True)
class QuitNewConnection:
    """The SMTP client is gone; the next one is told about over the same connection."""


Event: TypeAlias = (
    Negotiate
    | Macros
    | Connect
    | Helo
    | Mail
    | Rcpt
    | Data
    | Unknown
    | Header
    | EndOfHeaders
    | Body
    | EndOfMessage
    | Abort
    | Quit
    | QuitNewConnection
)
