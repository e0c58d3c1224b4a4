"""The message as far as it is known: what a rule sees.

Rules only read it; their changes come back as a decision and are applied here, so that the next rule sees the
message as it will leave. What the mail server is told in the end is the difference (`changes`).
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from todoku.gate.context import Context

if TYPE_CHECKING:
    from todoku.protect.plan import Plan

IN_MEMORY = 1024 * 1024  # a body larger than this goes to disk
READ_PIECE = 256 * 1024
MOST_KEPT = 4 * 1024 * 1024  # bytes of headers and recipients kept for one message


@dataclass(frozen=True, slots=True)
class Client:
    """Who connected to the mail server. `address` is empty when unknown (mail made on the host itself)."""

    hostname: str = ""
    address: str = ""
    port: int = 0
    helo: str = ""


class HeaderField(NamedTuple):
    """One header. `value` is raw: leading space and folding included. `origin`: its place on arrival, -1 if ours.
    (A tuple: there are many of them.)"""

    name: str
    value: str
    origin: int = -1

    @property
    def text(self) -> str:
        """The value unfolded (RFC 5322 2.2.3) and without the space around it."""
        return self.value.replace("\r\n", "").replace("\n", "").strip(" \t")


class Headers:
    """The header fields in order. Names compare without regard to case."""

    def __init__(self) -> None:
        self.received: list[HeaderField] = []  # as they came
        self._now: list[HeaderField] = self.received
        self._raw: bytes | None = None
        self._by_name: dict[str, list[HeaderField]] | None = None  # in lower case
        self.size = 0  # characters on arrival, names, colons and line ends included

    def __iter__(self) -> Iterator[HeaderField]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    @property
    def changed(self) -> bool:
        return self._now is not self.received

    @property
    def by_name(self) -> Mapping[str, list[HeaderField]]:
        """Those of each name, which is in lower case: nearly every rule looks some up."""
        if self._by_name is None:
            self._by_name = {}
            for header in self._now:
                self._by_name.setdefault(header.name.lower(), []).append(header)
        return self._by_name

    def all(self, name: str) -> list[HeaderField]:
        return list(self.by_name.get(name.lower(), ()))

    def first(self, name: str) -> str | None:
        """The unfolded value of the first header of that name."""
        found = self.by_name.get(name.lower())
        return found[0].text if found else None

    def arrived(self, name: str, value: str) -> None:
        self._raw = self._by_name = None
        self.size += len(name) + len(value) + 3
        self.received.append(HeaderField(name, value, len(self.received)))

    def edit(self) -> list[HeaderField]:
        """The list to change at once; the headers as they came stay as they are."""
        self._raw = self._by_name = None
        if self._now is self.received:
            self._now = list(self.received)
        return self._now

    def find(self, name: str, nth: int) -> int:
        """The place of the `nth` (from 1) header of that name; KeyError when there are fewer."""
        lowered = name.lower()
        for place, header in enumerate(self._now):
            if header.name.lower() == lowered:
                nth -= 1
                if nth == 0:
                    return place
        raise KeyError(f"no such header: {name}")

    def raw(self) -> bytes:
        """The header block as it stands, CRLF line ends, without the empty line."""
        if self._raw is None:  # several rules ask for it, and its size
            self._raw = _block(self._now)
        return self._raw

    def raw_as_arrived(self) -> bytes:
        """The same of the headers as they came."""
        return _block(self.received)


def _block(headers: Iterable[HeaderField]) -> bytes:
    raw = "".join([f"{name}:{value}\r\n" for name, value, _ in headers]).encode("utf-8", "surrogateescape")
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class Body:
    """The body: in memory up to `IN_MEMORY` bytes, beyond that in a file without a name."""

    def __init__(self, spool: Path) -> None:
        self.size = 0
        self._spool = spool
        self._chunks: list[bytes] = []
        self._file: IO[bytes] | None = None

    def append(self, chunk: bytes) -> None:
        """OSError when the disk is full."""
        self.size += len(chunk)
        if self._file is None:
            self._chunks.append(chunk)
            if self.size <= IN_MEMORY:
                return
            self._file = tempfile.TemporaryFile(dir=self._spool, buffering=0)  # noqa: SIM115 - closed in close()
            chunk = b"".join(self._chunks)
            self._chunks.clear()
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]

    @property
    def spooled(self) -> bool:
        return self._file is not None

    def chunks(self) -> Iterator[bytes]:
        """The body from its beginning, as it arrived (CRLF line ends), in pieces of at most `READ_PIECE` bytes."""
        if self._file is None:
            yield from self._chunks
            return
        at = 0
        while at < self.size:
            piece = os.pread(self._file.fileno(), READ_PIECE, at)
            if not piece:
                raise OSError(f"the spooled body ends at {at} of {self.size} bytes")
            at += len(piece)
            yield piece

    def read(self) -> bytes:
        """The whole body at once: as much memory as it is long."""
        return b"".join(self.chunks())

    def view(self) -> bytes | mmap.mmap:
        """The whole body for looking into any part of it: a large one stays on the disk."""
        if self._file is None:
            return b"".join(self._chunks)
        return mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ)

    def close(self) -> None:
        self._chunks.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(slots=True)
class MessageSoFar:
    """One message, or at CONNECT and HELO only the client. Addresses come without angle brackets."""

    client: Client
    context: Context
    macros: Mapping[str, str]
    sender: str = ""  # "" is the null sender
    sender_arguments: tuple[str, ...] = ()
    recipients: list[str] = field(default_factory=list)
    headers: Headers = field(default_factory=Headers)
    body: Body = field(default_factory=lambda: Body(Path(tempfile.gettempdir())))
    replaced_body: bytes | None = None
    protection: Plan | None = None  # of whom its attachments are kept, if of anybody (`rules.protection`)
    locked: tuple[
        str, ...
    ] = ()  # its password-protected ZIPs, where it is held for them (`rules.quarantine`)
    sender_given: str = ""
    recipients_given: dict[str, str] = field(default_factory=dict)  # address -> as the mail server wrote it
    when_told: Callable[[], None] | None = (
        None  # to be called when the mail server has been told that it passes
    )

    @property
    def login(self) -> str | None:
        """Who authenticated with SMTP AUTH."""
        return self.macros.get("auth_authen") or None

    @property
    def queue_id(self) -> str | None:
        return self.macros.get("i") or None

    @property
    def recipient(self) -> str:
        """The latest recipient: the one a rule at RCPT is asked about."""
        return self.recipients[-1]

    @property
    def body_size(self) -> int:
        """Bytes of the body as it stands."""
        return self.body.size if self.replaced_body is None else len(self.replaced_body)

    def body_view(self) -> bytes | mmap.mmap:
        """The body as it stands, for looking into any part of it."""
        return self.body.view() if self.replaced_body is None else self.replaced_body

    def body_chunks(self) -> Iterator[bytes]:
        """The body as it stands."""
        return self.body.chunks() if self.replaced_body is None else iter((self.replaced_body,))

    def began(self, sender: str, arguments: tuple[str, ...]) -> None:
        self.sender = self.sender_given = bare(sender)
        self.sender_arguments = arguments

    def recipient_came(self, recipient: str) -> None:
        address = bare(recipient)
        self.recipients.append(address)
        self.recipients_given[address] = recipient

    def recipient_refused(self) -> None:
        self.recipients_given.pop(self.recipients.pop(), None)


def bare(address: str) -> str:
    """An address without angle brackets."""
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address
