"""What is known only later: a CNAME target that the cloud chooses, a record that depends on it.

A resource that learns such a value tells it (when it looks, and again when it has changed something); another
that needs it holds a Reference and asks. Until then the plan says "known after apply". Secrets are never told here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that the resource with the id `resource` tells under `name`."""

    resource: str
    name: str

    def __str__(self) -> str:
        return f"(known after apply: {self.name} of {self.resource})"


class Outputs:
    """The values told so far in one run of plan or apply. Safe to use from several threads."""

    def __init__(self) -> None:
        self._values: dict[Reference, str] = {}
        self._lock = threading.Lock()

    def tell(self, resource: str, **values: str) -> None:
        with self._lock:
            self._values |= {Reference(resource, name): value for name, value in values.items()}

    def known(self, reference: Reference) -> str | None:
        with self._lock:
            return self._values.get(reference)

    def resolve(self, value: str | Reference) -> str | None:
        """The value itself, or what is known for the reference; None while it is not known."""
        return self.known(value) if isinstance(value, Reference) else value
