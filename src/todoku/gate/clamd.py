"""clamd's protocol (clamd(8)): the octets of a scan, and what its replies mean. No I/O.

Commands have the prefix "z" and end with a NUL, and so do replies. Within a session (IDSESSION) each reply begins
with the number of the command that it answers. INSTREAM is followed by pieces, each with its length as 32 bits in
network order, and ends with an empty one.

Written here because no library does it: aioclamd knows TCP only and opens a connection for each message, clamd (the
package) has had no release since 2014 and is LGPL, and clamav-client is built on it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

BEGIN_SESSION = b"zIDSESSION\0"
_INSTREAM = b"zINSTREAM\0"
_END = struct.pack(">I", 0)
PIECE = 128 * 1024  # bytes
LONGEST_REPLY = 8192  # bytes; names of signatures have a few dozen

_REPLY = re.compile(rb"(?:(\d{1,9}): )?(?:stream: )?(.*)", re.DOTALL)
_SIZE_LIMIT = b"INSTREAM size limit exceeded."
# What AlertExceedsMax says of a message that was not looked through to its end.
_LIMITS = "Heuristics.Limits.Exceeded"
_TIME = "MaxScanTime"


class ClamdError(Exception):
    """clamd gave no verdict. The message is what it said, or why nothing could be understood."""


@dataclass(frozen=True, slots=True)
class Clean:
    """Nothing was found."""


@dataclass(frozen=True, slots=True)
class Infected:
    """`signature` is printable US-ASCII without spaces."""

    signature: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """More than clamd takes, or looks through: the message, or what is packed in it. `limit` is clamd's word."""

    limit: str


Verdict: TypeAlias = Clean | Infected | TooLarge


def stream(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A scan of what `pieces` are together, as octets to be written."""
    yield _INSTREAM
    for piece in pieces:
        for at in range(0, len(piece), PIECE):
            part = piece[at : at + PIECE]
            yield struct.pack(">I", len(part)) + part
    yield _END


class Replies:
    """Cuts what clamd writes into replies. Keeps at most `LONGEST_REPLY` octets; ClamdError beyond."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, octets: bytes) -> list[bytes]:
        """The replies that are complete with `octets`, without their NUL."""
        *whole, self._rest = (self._rest + octets).split(b"\0")
        if len(self._rest) > LONGEST_REPLY or any(len(reply) > LONGEST_REPLY for reply in whole):
            raise ClamdError(f"a reply of more than {LONGEST_REPLY} bytes")
        return whole


def verdict(reply: bytes, number: int) -> Verdict:
    """What a reply to the scan with that number in its session says. Raises ClamdError."""
    found = _REPLY.fullmatch(reply)
    given, said = (found[1], found[2]) if found else (None, reply)
    if said.startswith(_SIZE_LIMIT):
        return TooLarge("StreamMaxLength")
    if given is None or int(given) != number:  # an error of the session itself, or an answer to another scan
        raise ClamdError(_shown(reply))
    if said == b"OK":
        return Clean()
    if said.endswith(b" FOUND"):
        return _found(_shown(said.removesuffix(b" FOUND")))
    raise ClamdError(_shown(said))


def _found(signature: str) -> Verdict:
    if signature.startswith(_LIMITS):
        limit = signature.removeprefix(_LIMITS).strip(".") or "a limit"
        if limit == _TIME:  # it may have had too much to do
            raise ClamdError(f"the scan was not finished in time ({_TIME})")
        return TooLarge(limit)
    return Infected(signature.replace(" ", "_"))


def _shown(raw: bytes) -> str:
    """At most 200 characters of it, printable; never empty."""
    text = raw.decode("ascii", "replace").strip()
    return "".join(each if " " <= each <= "~" else "?" for each in text)[:200] or "an empty reply"
