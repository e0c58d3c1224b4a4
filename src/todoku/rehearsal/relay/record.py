"""What the relay was told to do wrong, and what it has seen: the two sides of the fault switchboard."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from todoku.rehearsal.smtp.session import Reply

STAGES = ("connect", "auth", "mail", "rcpt", "data", "eom")
KEPT = 5000  # entries of each list; older ones are forgotten so that a load test does not eat the memory


@dataclass(slots=True)
class Injected:
    """A reply that takes the place of the real one at a stage, `count` more times."""

    stage: str
    text: str
    count: int

    def reply(self) -> Reply:
        """4xx and 5xx at the connection hang up, as 421 does anywhere."""
        return Reply.of(self.text)


@dataclass(slots=True)
class Faults:
    """The switches."""

    latency_ms: float = 0.0  # before each reply
    injected: Injected | None = None
    down: bool = False

    def take(self, stage: str) -> Reply | None:
        """The injected reply for this stage, if one is due."""
        due = self.injected
        if due is None or due.stage != stage:
            return None
        due.count -= 1
        if due.count <= 0:
            self.injected = None
        return due.reply()


@dataclass(frozen=True, slots=True)
class Given:
    """A reply as it was given."""

    time: float
    client_ip: str
    stage: str
    text: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """A message that the relay took responsibility for."""

    time: float
    client_ip: str
    mail_from: str
    header_from: str
    rcpt_to: tuple[str, ...]  # those it is delivered to
    suppressed: tuple[str, ...]  # those it is silently not delivered to
    message_id: str
    size: int  # octets, as submitted


@dataclass(frozen=True, slots=True)
class Relayed:
    """What the receiving side said to one recipient's copy, at the end of all tries."""

    time: float
    recipient: str
    message_id: str
    action: str  # relay, bounce
    bounce: str  # hard, soft, or empty
    reply: str  # "550 5.1.1 ..."
    host: str
    tls: bool
    tls_verified: bool
    tries: int
    author: str  # first address of From


def _list() -> deque[object]:
    return deque(maxlen=KEPT)


@dataclass(slots=True)
class Seen:
    """The counters and the last entries of each list."""

    connections: int = 0
    open_connections: Counter[str] = field(default_factory=Counter)  # by client address, now
    auths: int = 0  # accepted
    auth_failures: int = 0
    reply_codes: Counter[int] = field(default_factory=Counter)
    messages: int = 0
    replies: deque[object] = field(default_factory=_list)  # Given
    submitted: deque[object] = field(default_factory=_list)  # Submitted
    relayed: deque[object] = field(default_factory=_list)  # Relayed, action relay
    bounces: deque[object] = field(default_factory=_list)  # Relayed, action bounce

    def gave(self, client_ip: str, stage: str, reply: Reply) -> None:
        """A reply was given."""
        self.reply_codes[reply.code] += 1
        self.replies.append(Given(time.time(), client_ip, stage, reply.text))

    def forget(self) -> None:
        """Count from zero again; open connections stay open."""
        self.connections = self.auths = self.auth_failures = self.messages = 0
        self.reply_codes.clear()
        for entries in (self.replies, self.submitted, self.relayed, self.bounces):
            entries.clear()
