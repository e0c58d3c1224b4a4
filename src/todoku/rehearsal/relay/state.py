"""What the simulated relay knows: credentials, approved senders, keys, suppressions, limits, counters.

The rules are Oracle's published ones for Email Delivery (overview, approved sender, troubleshooting and
suppression list pages). Where those pages are silent, the harshest plausible answer is taken, and the comment
says "not published". SMTP asks this class now; a simulator of the control API can change the same state.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from todoku.rehearsal.internet.plan import InternetPlan
from todoku.rehearsal.relay.signing import Signer

# "2 MB" on the overview page; which of 2,000,000 and 2,097,152 is not published: the smaller one is harsher.
MEGABYTES_2 = 2_000_000
MINUTE, DAY = 60.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Overview page, "enterprise" column, plus what is not published.

    auth_failures: the troubleshooting page has a throttle per address after "repeated" failures (bad
    credentials and senders that are not approved alike); the number is not published. 5 within a minute.
    connections: from one address at a time; there is a reply for too many, the number is not published.
    """

    per_minute: int = 18_000
    per_day: int = 50_000
    size: int = MEGABYTES_2  # octets of one message
    auth_failures: int = 5
    connections: int = 50


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry of the suppression list; reasons as in the control API."""

    address: str  # lower case
    reason: str  # HARDBOUNCE, COMPLAINT, MANUAL, ...
    time: float
    message_id: str = ""
    error_detail: str = ""  # the other side's SMTP reply
    error_source: str = ""  # the other side's host


@dataclass(slots=True)
class Window:
    """How many in the last `seconds`."""

    seconds: float
    entries: deque[tuple[float, int]] = field(default_factory=deque)
    total: int = 0

    def add(self, now: float, count: int = 1) -> None:
        """Count `count` more."""
        self.entries.append((now, count))
        self.total += count

    def count(self, now: float) -> int:
        """The sum of what is not older than the window."""
        while self.entries and self.entries[0][0] <= now - self.seconds:
            self.total -= self.entries.popleft()[1]
        return self.total


@dataclass(slots=True)
class RelayState:
    """The service as one customer sees it. `clock` is monotonic seconds."""

    credentials: dict[str, str]  # user name -> password
    signers: dict[str, Signer]  # domain -> its active DKIM key
    approved_senders: Iterable[str] = ()
    limits: Limits = field(default_factory=Limits)
    sender_propagation: float = 0.0  # seconds until a new approved sender is believed
    suppressions: dict[str, Suppression] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    return_paths: dict[str, str] = field(default_factory=dict)  # domain -> its active return path of its own
    # Whether policies let a user (OCID) send as an approved sender.
    permits: Callable[[str, str], bool] = lambda _user, _sender: True
    # Where the service logs what it does: email domain, category, the record's data.
    log: Callable[[str, str, dict[str, object]], None] = lambda _domain, _category, _data: None
    senders: dict[str, float] = field(default_factory=dict)  # as approved -> when
    minute: Window = field(default_factory=lambda: Window(MINUTE))
    day: Window = field(default_factory=lambda: Window(DAY))
    reserved: int = 0
    failures: dict[str, Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What is there at the start has long been believed everywhere.
        self.senders = {_sender(address): float("-inf") for address in self.approved_senders}

    @classmethod
    def seeded(cls, plan: InternetPlan) -> RelayState:
        """The state with which a rehearsal starts."""
        signers = {
            domain.name: Signer(domain.name, domain.selector, domain.dkim_private_key)
            for domain in plan.domains
        }
        credential = plan.credential
        credentials = {credential.username: credential.password} if credential else {}
        return cls(credentials, signers, plan.approved_senders)

    # -- who may send

    def authenticate(self, username: bytes, password: bytes) -> str | None:
        """The user's OCID when both match byte for byte.

        The generated user name is `USER_OCID@TENANCY_OCID.xx.com`.
        """
        for known, secret in self.credentials.items():
            if (username, password) == (known.encode(), secret.encode()):
                return known.partition("@")[0]
        return None

    def approve(self, address: str, age: float = 0.0) -> None:
        """Create an approved sender: `user@domain`, or `@domain` for a whole domain; `age` seconds ago."""
        self.senders.setdefault(_sender(address), self.clock() - age)

    def set_senders(self, addresses: Iterable[str]) -> None:
        """Make these the approved senders; those that stay keep their age."""
        wanted = {_sender(address) for address in addresses}
        self.senders = {address: self.senders.get(address, self.clock()) for address in sorted(wanted)}

    def withdraw(self, address: str) -> None:
        """An approved sender was deleted."""
        self.senders.pop(_sender(address), None)

    def is_approved(self, address: str, user: str | None = None) -> bool:
        """Whether mail of `user` (OCID) may claim to be from `address`.

        Not published: whether `@domain` covers subdomains (here it does not) and whether local parts are
        compared without case (here they are not; the domain is).
        """
        local, at, domain = address.rpartition("@")
        if not (local and at and domain):
            return False
        candidates = (_sender(address), f"@{domain.lower()}")
        usable = self.clock() - self.sender_propagation
        return any(
            self.senders.get(candidate, float("inf")) <= usable
            and (user is None or self.permits(user, candidate))
            for candidate in candidates
        )

    # -- the throttle per client address

    def failed(self, ip: str) -> None:
        """A bad credential, or a sender that is not approved, from this address."""
        self.failures.setdefault(ip, Window(MINUTE)).add(self.clock())

    def is_throttled(self, ip: str) -> bool:
        """Whether this address is turned away.

        Not published: for how long. Here until less than the limit lie within the last minute.
        """
        window = self.failures.get(ip)
        if window is None:
            return False
        count = window.count(self.clock())
        if not count:
            del self.failures[ip]
        return count >= self.limits.auth_failures

    # -- how much may be sent

    def chunks(self, size: int) -> int:
        """An "email" is one recipient times each started 2 MB (overview page)."""
        return max(1, -(-size // MEGABYTES_2))

    def reserve(self, emails: int) -> str | None:
        """Set `emails` aside for a message on its way; the refusal when there is no room for them.

        Messages on their way count at once, so that parallel sessions cannot pass the limit together.
        """
        now = self.clock()
        pending = self.reserved + emails
        if self.minute.count(now) + pending > self.limits.per_minute:
            return f"455 Maximum messages sent per minute reached : limit is {self.limits.per_minute}"
        if self.day.count(now) + pending > self.limits.per_day:
            return f"455 Maximum messages sent per day reached : limit is {self.limits.per_day}"
        self.reserved += emails
        return None

    def release(self, emails: int) -> None:
        """The message did not come after all."""
        self.reserved -= emails

    def spend(self, emails: int) -> None:
        """The message was accepted."""
        self.reserved -= emails
        self.minute.add(self.clock(), emails)
        self.day.add(self.clock(), emails)

    # -- whom nothing is sent to

    def suppress(
        self, address: str, reason: str, message_id: str = "", detail: str = "", source: str = ""
    ) -> None:
        """Put an address on the suppression list (kept in lower case)."""
        address = address.lower()
        entry = Suppression(address, reason, time.time(), message_id.strip("<>"), detail, source)
        self.suppressions.setdefault(address, entry)

    def set_suppressions(self, addresses: Iterable[str]) -> None:
        """Make these the suppressed addresses; entries that stay keep their reason."""
        wanted = {address.lower() for address in addresses}
        self.suppressions = {a: entry for a, entry in self.suppressions.items() if a in wanted}
        for address in sorted(wanted):
            self.suppress(address, "MANUAL")

    def is_suppressed(self, address: str) -> bool:
        """Whether mail to this address is accepted and dropped."""
        return address.lower() in self.suppressions

    def forget_traffic(self) -> None:
        """Forget what was counted: rates and failures."""
        self.minute, self.day = Window(MINUTE), Window(DAY)
        self.failures.clear()


def _sender(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"
