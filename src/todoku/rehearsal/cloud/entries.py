"""What is kept in the cloud: entries with an OCID, a lifecycle that takes its time, an ETag, tags and locks."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .clock import Clock
from .errors import ApiError, conflict, not_found

# How long what was deleted is still listed, as DELETED. Not published for Email Delivery; there are services
# that do it, so clients have to look at the state.
DELETED_SHOWN = 900.0


@dataclass(slots=True)
class Timing:
    """How long things take, in seconds of the cloud's clock. The switchboard sets the fields by name.

    sender_propagation is the relay's (`sender_propagation_s`). The real activation of a key was seen to take
    up to 65 minutes after the DNS was right; policies "typically" take effect within 10 seconds (SDK).
    """

    creating_s: float = 0.2
    deleting_s: float = 0.2
    dkim_activation_s: float = 0.5
    return_path_activation_s: float = 0.5
    policy_propagation_s: float = 0.0
    log_delay_s: float = 0.0


def ocid(kind: str, region: str = "") -> str:
    """A new identifier in Oracle's form."""
    unique = base64.b32encode(secrets.token_bytes(32)).decode().rstrip("=").lower()
    return f"ocid1.{kind}.oc1.{region}.aaaaaaaa{unique}"


@dataclass(slots=True, kw_only=True)
class Entry:
    """Anything with an OCID. Moments are on the cloud's clock."""

    id: str
    compartment: str
    name: str
    created: float
    ready: float  # until then CREATING
    description: str | None = None
    updated: float | None = None
    leaving: float | None = None  # since then DELETING
    gone: float | None = None  # from then on DELETED
    version: int = 1
    freeform_tags: dict[str, Any] = field(default_factory=dict)
    defined_tags: dict[str, Any] = field(default_factory=dict)
    locks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def etag(self) -> str:
        """Changes with every change."""
        return f"{self.id[-12:]}-{self.version}"

    def state(self, now: float) -> str:
        """CREATING, ACTIVE, DELETING or DELETED."""
        if self.leaving is not None:
            return "DELETED" if self.gone is not None and now >= self.gone else "DELETING"
        return "CREATING" if now < self.ready else "ACTIVE"

    def alive(self) -> bool:
        """Not on its way out."""
        return self.leaving is None

    def touch(self, now: float) -> None:
        """It was changed."""
        self.updated = now
        self.version += 1

    def leave(self, now: float, seconds: float) -> None:
        """Delete it, which takes `seconds`."""
        if self.leaving is not None:
            raise not_found()
        self.leaving, self.gone = now, now + seconds
        self.version += 1

    def shown(self, clock: Clock, state: str | None = None) -> dict[str, Any]:
        """The fields that all kinds have in the API."""
        return {
            "id": self.id,
            "compartmentId": self.compartment,
            "name": self.name,
            "description": self.description,
            "lifecycleState": state or self.state(clock.now()),
            "timeCreated": clock.text(self.created),
            "timeUpdated": clock.text(self.updated or self.created),
            "freeformTags": self.freeform_tags,
            "definedTags": self.defined_tags,
        }

    def set_tags(self, body: dict[str, Any]) -> None:
        """Take over the tags of a request; those that it does not name stay."""
        self.freeform_tags = body.get("freeformTags") or self.freeform_tags
        self.defined_tags = body.get("definedTags") or self.defined_tags


E = TypeVar("E", bound=Entry)


class Shelf(dict[str, E]):
    """Entries of one kind by OCID, in the order of their creation."""

    def put(self, entry: E) -> E:
        """One more."""
        self[entry.id] = entry
        return entry

    def find(self, identifier: str) -> E:
        """By OCID; raises `ApiError` 404."""
        try:
            return self[identifier]
        except KeyError:
            raise not_found() from None

    def alive(self) -> Iterable[E]:
        """Those not on their way out."""
        return [entry for entry in self.values() if entry.leaving is None]

    def named(self, name: str) -> E | None:
        """The living entry of this name (without case)."""
        return next((entry for entry in self.alive() if entry.name.lower() == name.lower()), None)

    def sweep(self, now: float, shown: float = DELETED_SHOWN) -> None:
        """Forget what has been DELETED for a while."""
        for entry in tuple(self.values()):
            if entry.gone is not None and now >= entry.gone + shown:
                del self[entry.id]


def if_match(entry: Entry, wanted: str | None) -> None:
    """Optimistic locking; raises `ApiError` 412."""
    if wanted not in (None, "", "*", entry.etag):
        raise ApiError(
            412, "NoEtagMatch", f"the If-Match value {wanted} does not match the current ETag of the resource"
        )


def refuse_locked(entry: Entry, override: str | None) -> None:
    """A locked resource is neither changed nor deleted; raises `ApiError` 409."""
    if entry.locks and override != "true":
        raise conflict(f"{entry.id} is locked", "ResourceLocked")
