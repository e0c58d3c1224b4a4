"""What the cloud says exists, as values: parsed once from the SDK's models, and the same for every backend.

`ours` is whether Todoku made the thing: it carries the freeform tag `todoku = managed`. Nothing without the
tag is ever changed or deleted. SMTP credentials cannot carry tags; their description says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

TAGS: Mapping[str, str] = {"todoku": "managed"}

# Life-cycle states of Oracle's resources, as far as they matter here (enumerations of the SDK's models).
ACTIVE = "ACTIVE"
CREATING = "CREATING"
FAILED = "FAILED"
INACTIVE = "INACTIVE"
NEEDS_ATTENTION = "NEEDS_ATTENTION"
DELETING = "DELETING"
DELETED = "DELETED"
GOING = frozenset({DELETING, DELETED})


@dataclass(frozen=True, slots=True)
class EmailDomain:
    """A domain that Email Delivery knows, in one region."""

    id: str
    name: str  # lower case, A-labels
    state: str
    ours: bool
    active_dkim_id: str | None = None
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class Dkim:
    """A DKIM key of an email domain. Oracle keeps the private half; at most two keys per domain."""

    id: str
    domain_id: str
    selector: str
    state: str
    ours: bool
    record_name: str = ""  # "SELECTOR._domainkey.DOMAIN"
    cname: str = ""  # what the record has to point at; empty once it is known that a CNAME is of no use
    txt: str = ""  # the record's text, where a CNAME cannot be used
    details: str = ""  # why it is not ACTIVE, in Oracle's words
    created: datetime | None = None
    updated: datetime | None = None


@dataclass(frozen=True, slots=True)
class LogGroup:
    """A group of logs, in the sending region."""

    id: str
    name: str
    state: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Log:
    """A service log of Email Delivery; `resource` is the OCID of the email domain that it is about."""

    id: str
    group_id: str
    name: str
    state: str
    ours: bool
    enabled: bool
    resource: str
    category: str  # "outboundaccepted", "outboundrelayed"


@dataclass(frozen=True, slots=True)
class Sender:
    """An approved sender: one address, or "@DOMAIN" for all of a domain."""

    id: str
    address: str  # lower case
    state: str
    ours: bool
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReturnPath:
    """A custom return path: the envelope sender's domain, below our own, so that SPF aligns."""

    id: str
    domain_id: str
    name: str
    state: str
    ours: bool
    record_name: str = ""
    cname: str = ""
    details: str = ""
    created: datetime | None = None
    updated: datetime | None = None


@dataclass(frozen=True, slots=True)
class User:
    id: str
    name: str
    ours: bool
    active: bool = True
    may_use_smtp: bool = True  # the user's capability "can use SMTP credentials"


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    ours: bool


@dataclass(frozen=True, slots=True)
class Policy:
    id: str
    name: str
    compartment: str
    statements: tuple[str, ...]
    ours: bool


@dataclass(frozen=True, slots=True)
class SmtpCredential:
    """A user name for the relay. The password is told once, when it is made, and never again."""

    id: str
    username: str
    description: str
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that was made just now, with its password: to be stored at once, never printed."""

    id: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Region:
    """A region that the tenancy is subscribed to."""

    name: str
    home: bool


@dataclass(frozen=True, slots=True)
class IdentityDomain:
    """An identity domain of the tenancy. The older IAM has none."""

    name: str
    url: str


class _Stateful(Protocol):
    @property
    def state(self) -> str: ...


T = TypeVar("T", bound=_Stateful)


def live(things: Iterable[T]) -> list[T]:
    """Those that are not being deleted, and were not."""
    return [thing for thing in things if thing.state not in GOING]
