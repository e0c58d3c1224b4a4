"""The ports on which the world and our own people reach us: 25, 587, 465, 993, and how to get to TLS there."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from todoku.check.dialogue import Dialogue, greeted
from todoku.check.means import Means
from todoku.settings import Settings

LOOPBACK = "127.0.0.1"
SECONDS = 4.0  # for each wait


@dataclass(frozen=True, slots=True)
class Port:
    """`starttls`: SMTP that begins in the clear."""

    number: int
    protocol: str  # "smtp", "imap"
    starttls: bool
    clients: bool  # for mail programs, which look at certificates

    def __str__(self) -> str:
        return f"port {self.number}"


WORLD = Port(25, "smtp", starttls=True, clients=False)
SUBMISSION = Port(587, "smtp", starttls=True, clients=True)
SUBMISSIONS = Port(465, "smtp", starttls=False, clients=True)
IMAPS = Port(993, "imap", starttls=False, clients=True)
PORTS = (WORLD, SUBMISSION, SUBMISSIONS, IMAPS)


@dataclass(frozen=True)
class Door:
    """A port of ours, reached through the address that the world uses; else through loopback, where it listens always.

    Behind an address translation, as in Oracle's cloud, a machine often cannot reach its own public address.
    """

    port: Port
    hostname: str
    address: str
    means: Means

    def open(self) -> Dialogue:
        """A connection on which nothing was said yet. Raises OSError."""
        try:
            return self.from_outside()
        except OSError as problem:
            try:
                return Dialogue(self.means.connect, LOOPBACK, self.port.number, SECONDS)
            except OSError:
                raise problem from None

    def from_outside(self) -> Dialogue:
        """The same, by the address that the world uses alone. Raises OSError."""
        return Dialogue(self.means.connect, self.address, self.port.number, SECONDS)

    @contextmanager
    def secured(self, context: ssl.SSLContext) -> Iterator[tuple[Dialogue, ssl.SSLSocket]]:
        """A connection within TLS, greeted again where it is SMTP. Raises OSError, NotOffered."""
        with self.open() as dialogue:
            if self.port.starttls:
                if not greeted(dialogue, self.hostname).offers("STARTTLS"):
                    raise NotOffered(f"{self.port} does not offer STARTTLS")
                answer = dialogue.say("STARTTLS")
                if answer.code != 220:
                    raise NotOffered(f"{self.port} answers STARTTLS with {answer}")
            yield dialogue, dialogue.secure(context, self.hostname)


class NotOffered(ConnectionError):
    """There is no TLS at that port."""


def door(port: Port, settings: Settings, means: Means) -> Door:
    return Door(port, settings.hostname, str(settings.addresses[0]), means)


def doors(settings: Settings, means: Means) -> list[Door]:
    return [door(port, settings, means) for port in PORTS]
