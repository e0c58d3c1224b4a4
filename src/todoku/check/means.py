"""What the judge looks with: the resolver, the clock, the network, the host and the cloud, all of them arguments."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime

from todoku.cloud.client import Cloud
from todoku.cloud.limits import SendingLimits
from todoku.cloud.suppressions import Suppression
from todoku.dns import text
from todoku.dns.lookups import Answer, Lookups
from todoku.gate.resolver import DnsTrouble, Found
from todoku.host.client import Host
from todoku.settings import RelayCredential

# host, port, seconds -> a connected socket. Raises OSError.
Connect = Callable[[str, int, float], socket.socket]


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection; every later wait for the other side is bounded by `timeout` seconds as well."""
    return socket.create_connection((host, port), timeout)


class Unanswered(LookupError):
    """The DNS did not answer. The message says what was asked."""


@dataclass
class Dns:
    """Questions to the resolver, each asked once, however many topics want to know. Safe between threads."""

    lookups: Lookups
    _known: dict[tuple[str, str], Future[Answer]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, name: str, type_: str) -> Answer:
        """What the world sees. Raises Unanswered."""
        key = (name.lower().rstrip("."), type_)
        with self._lock:
            known = self._known.get(key)
            mine = known is None
            if known is None:
                known = self._known[key] = Future()
        if mine:
            try:
                known.set_result(self.lookups.resolve(*key))
            except BaseException as problem:
                known.set_exception(problem)
                raise
        answer = known.result()
        if not answer.usable:
            raise Unanswered(f"{type_} of {name}: {answer.status.value}")
        return answer

    def values(self, name: str, type_: str) -> tuple[str, ...]:
        """The values, none where there are none. Raises Unanswered."""
        return self.ask(name, type_).values

    def addresses(self, name: str) -> tuple[str, ...]:
        """IPv4 first. Raises Unanswered."""
        return (*self.values(name, "A"), *self.values(name, "AAAA"))

    def for_gate(self, name: str, type_: str) -> Found:
        """The same in the form in which the gate's DMARC and SPF want it. Raises DnsTrouble."""
        try:
            answer = self.ask(name, type_)
        except Unanswered as problem:
            raise DnsTrouble(str(problem)) from problem
        exists = answer.status.value != "no such name"
        return Found(tuple(text.encoded(value) for value in answer.values), exists)


@dataclass(frozen=True)
class Means:
    """`host` and `cloud` are None where there are none to look at: an outside view, settings without [cloud]."""

    dns: Dns
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    monotonic: Callable[[], float] = field(default=time.monotonic)
    connect: Connect = field(default=connect)
    trust: Callable[[], ssl.SSLContext] = field(default=ssl.create_default_context)
    host: Host | None = None
    cloud: Cloud | None = None
    login: Callable[[], RelayCredential] | None = None  # the relay's credential; raises CredentialError
    addresses: Sequence[str] = ()  # that people have here
    forwards: Mapping[str, str] = field(
        default_factory=dict
    )  # outside address -> an alias here that leads to it
    # Of Oracle's cloud; both raise CloudError.
    suppressions: Callable[[], Sequence[Suppression]] | None = None
    limits: Callable[[], SendingLimits] | None = None
