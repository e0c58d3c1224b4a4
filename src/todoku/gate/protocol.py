"""The milter protocol, version 6, as a decoder without I/O: bytes in, events out; and the opening agreement.

A packet is a length (32 bits, network order), a command octet and its payload. Constants are those of libmilter's
`mfdef.h` and Postfix's `milter8.c`. Whatever the bytes are, `Decoder.receive` raises nothing but `ProtocolError`,
and what it keeps is never more than one packet of `LARGEST_PACKET` bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntFlag

from todoku.gate import events
from todoku.gate.events import Event

VERSION = 6
OLDEST_VERSION = 2

# Body pieces are at most 65,535 bytes; a header field is bounded by Postfix's header_size_limit (100 KB by default).
LARGEST_PACKET = 1024 * 1024


class ProtocolError(Exception):
    """The peer sent what the milter protocol does not allow; the connection cannot go on."""


class Action(IntFlag):
    """What a milter may do to a message (SMFIF_*)."""

    ADD_HEADERS = 0x01
    REPLACE_BODY = 0x02
    ADD_RECIPIENTS = 0x04
    DELETE_RECIPIENTS = 0x08
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH_ARGUMENTS = 0x80
    SET_MACROS = 0x100


class Step(IntFlag):
    """How the dialogue may be shortened (SMFIP_*): NO_x is not sent at all, SILENT_x (NR_x) awaits no reply."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADERS = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    REJECTED_RECIPIENTS = 0x800
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_END_OF_HEADERS = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000


# Every way to save a round trip.
EVERY_SILENCE = (
    Step.SILENT_CONNECT
    | Step.SILENT_HELO
    | Step.SILENT_MAIL
    | Step.SILENT_RCPT
    | Step.SILENT_DATA
    | Step.SILENT_UNKNOWN
    | Step.SILENT_HEADER
    | Step.SILENT_END_OF_HEADERS
    | Step.SILENT_BODY
)
EVERY_ACTION = (
    Action.ADD_HEADERS
    | Action.REPLACE_BODY
    | Action.ADD_RECIPIENTS
    | Action.DELETE_RECIPIENTS
    | Action.CHANGE_HEADERS
    | Action.CHANGE_SENDER
)

# The macros a rule may read, by stage number (SMFIM_*): connect, helo, mail, rcpt, data, end of message, end of
# headers. Asked for here, so that no Postfix parameter has to name them, and nothing else is sent.
MACROS = (
    (0, "j {daemon_name} {client_addr} {client_port}"),
    (1, ""),
    (2, "i {auth_authen} {auth_type} {tls_version}"),
    (3, "i"),
    (4, ""),
    (5, "i"),
    (6, "i"),
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides will do: the protocol version, the actions permitted and the steps in force."""

    version: int
    actions: Action
    steps: Step

    def encode(self) -> bytes:
        """The reply to `Negotiate`."""
        payload = struct.pack(">III", self.version, self.actions, self.steps)
        if self.actions & Action.SET_MACROS:
            for stage, names in MACROS:
                payload += struct.pack(">I", stage) + names.encode() + b"\0"
        return struct.pack(">IB", 1 + len(payload), ord("O")) + payload


def agree(offer: events.Negotiate, wanted: Step) -> Agreement:
    """The part of `wanted`, and of the actions we use, that the peer offers; ProtocolError below version 2."""
    if offer.version < OLDEST_VERSION:
        raise ProtocolError(
            f"the mail server speaks milter version {offer.version}; at least {OLDEST_VERSION} is needed"
        )
    return Agreement(
        version=min(offer.version, VERSION),
        actions=(EVERY_ACTION | Action.SET_MACROS) & offer.actions,
        steps=wanted & offer.steps,
    )


_HEAD = struct.Struct(">IB")  # the length of command and payload, the command


class Decoder:
    """Cuts a stream of bytes into packets and packets into events."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0  # bytes that `_rest` has to have before it is worth looking at again

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """The events that are complete with `data`, in order. Keeps no reference to `data`."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = self._rest
        raw = bytes(data)
        found: list[Event] = []
        at, end, needed = 0, len(raw), _HEAD.size
        while end - at >= needed:
            length, command = _HEAD.unpack_from(raw, at)
            if not 0 < length <= LARGEST_PACKET:
                raise ProtocolError(f"a packet of {length} bytes; 1 to {LARGEST_PACKET} are allowed")
            after = at + 4 + length
            if after > end:
                needed = 4 + length
                break
            decode = _DECODE.get(command)
            if decode is None:
                raise ProtocolError(f"unknown command {chr(command)!r}")
            found.append(decode(raw[at + 5 : after]))
            at = after
        self._rest = bytearray(raw[at:])
        self._needed = needed
        return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _strings(payload: bytes, what: str) -> list[str]:
    """The NUL-terminated strings that fill the payload."""
    if not payload.endswith(b"\0"):
        raise ProtocolError(f"{what}: the last string is not terminated")
    return _text(payload[:-1]).split("\0")


def _negotiate(payload: bytes) -> events.Negotiate:
    if len(payload) < 12:
        raise ProtocolError(f"negotiation of {len(payload)} bytes; 12 are needed")
    return events.Negotiate(*struct.unpack_from(">III", payload))


def _macros(payload: bytes) -> events.Macros:
    if not payload:
        raise ProtocolError("macros without a command")
    if len(payload) == 1:
        return events.Macros(chr(payload[0]), {})
    parts = _strings(payload[1:], "macros")
    if len(parts) % 2:
        raise ProtocolError("macros: a name without a value")
    names = (name[1:-1] if name.startswith("{") and name.endswith("}") else name for name in parts[::2])
    return events.Macros(chr(payload[0]), dict(zip(names, parts[1::2], strict=True)))


def _connect(payload: bytes) -> events.Connect:
    hostname, separator, rest = payload.partition(b"\0")
    if not separator or not rest:
        raise ProtocolError("connect: no address family")
    family = chr(rest[0])
    if family == "U":
        return events.Connect(_text(hostname), family, 0, "")
    if family not in "46L" or len(rest) < 4 or not rest.endswith(b"\0"):
        raise ProtocolError(f"connect: malformed address of family {family!r}")
    return events.Connect(_text(hostname), family, int.from_bytes(rest[1:3], "big"), _text(rest[3:-1]))


def _helo(payload: bytes) -> events.Helo:
    return events.Helo(_strings(payload, "helo")[0])


def _mail(payload: bytes) -> events.Mail:
    sender, *arguments = _strings(payload, "mail")
    return events.Mail(sender, tuple(arguments))


def _rcpt(payload: bytes) -> events.Rcpt:
    recipient, *arguments = _strings(payload, "rcpt")
    return events.Rcpt(recipient, tuple(arguments))


def _header(payload: bytes) -> events.Header:
    parts = _strings(payload, "header")
    if len(parts) != 2 or not parts[0]:
        raise ProtocolError("header: not a name and a value")
    return events.Header(parts[0], parts[1])


def _unknown(payload: bytes) -> events.Unknown:
    return events.Unknown(_text(payload.rstrip(b"\0")))


def _bare(event: Event) -> Callable[[bytes], Event]:
    """A command that carries nothing; what a peer sends with it all the same is not looked at."""
    return lambda _payload: event


_DECODE: dict[int, Callable[[bytes], Event]] = {
    ord("O"): _negotiate,
    ord("D"): _macros,
    ord("C"): _connect,
    ord("H"): _helo,
    ord("M"): _mail,
    ord("R"): _rcpt,
    ord("T"): _bare(events.Data()),
    ord("U"): _unknown,
    ord("L"): _header,
    ord("N"): _bare(events.EndOfHeaders()),
    ord("B"): events.Body,
    ord("E"): events.EndOfMessage,
    ord("A"): _bare(events.Abort()),
    ord("Q"): _bare(events.Quit()),
    ord("K"): _bare(events.QuitNewConnection()),
}


def wanted_steps(stages: Collection[int], silences: dict[int, Step], *, body: bool) -> Step:
    """Every step that saves a packet: no reply at any stage but those in `stages`, and no body unless it is read."""
    wanted = EVERY_SILENCE | Step.SKIP | Step.LEADING_SPACE | Step.NO_UNKNOWN | Step.NO_DATA
    for stage in stages:
        wanted &= ~silences.get(stage, Step(0))
    return wanted if body else wanted | Step.NO_BODY
