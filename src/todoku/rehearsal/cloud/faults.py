"""What the REST side was told to do wrong, and what it has seen."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

KEPT = 5000


@dataclass(slots=True)
class RestFault:
    """The next `count` calls whose operation matches fail, after `skip` that do not.

    `status` answers instead of doing anything; `cut` breaks the connection before or after it is done.
    `operation`: the SDK's name of the method, with `*`; "writes" means every call that changes something.
    """

    status: int = 0
    code: str = ""
    cut: str = ""  # "before", "after"
    operation: str = "*"
    count: int = 1
    skip: int = 0

    def due(self, operation: str, *, writes: bool) -> bool:
        """Whether this call fails; counts it."""
        meant = writes if self.operation == "writes" else fnmatch.fnmatchcase(operation, self.operation)
        if not meant or self.count <= 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.count -= 1
        return True


# The codes of Oracle's "API errors" page.
CODES = {
    400: "InvalidParameter",
    401: "NotAuthenticated",
    404: "NotAuthorizedOrNotFound",
    409: "IncorrectState",
    412: "NoEtagMatch",
    429: "TooManyRequests",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}


@dataclass(slots=True)
class RestSeen:
    """The calls there were. Bodies are not kept: they have secrets."""

    operations: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    calls: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def note(self, operation: str, status: int, principal: str, agent: str, host: str) -> None:
        """One call; status 0 is a connection that was cut."""
        self.operations[operation] += 1
        self.statuses[status] += 1
        self.calls.append(
            {
                "time": time.time(),
                "operation": operation,
                "status": status,
                "principal": principal,
                "agent": agent,
                "host": host,
            }
        )

    def forget(self) -> None:
        """Count from zero again."""
        self.operations.clear()
        self.statuses.clear()
        self.calls.clear()
