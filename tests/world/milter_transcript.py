"""One mail server's side of a conversation, told to any milter: what became of each command, comparable between two.

The mail server keeps to what was agreed on: it leaves out what is not wanted, and waits for no reply where none comes.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit/gate"))
from mta_side import MailServer, packet, strings  # of the unit tests

# SMFIP_*, by command: what is not sent (NO_x), and where no reply is awaited (NR_x)
_LEFT_OUT = {"C": 0x1, "H": 0x2, "M": 0x4, "R": 0x8, "B": 0x10, "L": 0x20, "N": 0x40, "U": 0x100, "T": 0x200}
_SILENT = {
    "C": 0x1000,
    "H": 0x2000,
    "M": 0x4000,
    "R": 0x8000,
    "T": 0x10000,
    "U": 0x20000,
    "N": 0x40000,
    "L": 0x80,
    "B": 0x80000,
}
_LEADING_SPACE = 0x100000
_ENDS = "cartdys"  # what ends the answer to a command
_PASSES = ("c",)


@dataclass(slots=True)
class Conversation:
    """A connection to a milter. `said`: what each command led to, in the order in which they were given."""

    socket: Path
    version: int = 6
    actions: int = 0x1FF
    steps: int = 0x1FFFFF
    said: list[tuple[str, object]] = field(default_factory=list)
    _server: MailServer = field(init=False)
    _agreed: int = 0

    def __post_init__(self) -> None:
        self._server = MailServer(self.socket)
        self._server.send(packet("O", struct.pack(">III", self.version, self.actions, self.steps)))
        command, payload = self._server.reply()
        version, actions, steps = struct.unpack(">III", payload[:12])
        self._agreed = steps
        # The actions are those that each wants; neither may take what was not offered.
        self.said.append(("agreed", (command, version, actions & ~self.actions, steps & ~self.steps)))

    def connect(self, address: str = "192.0.2.1") -> None:
        raw = b"client.test\0" + b"4" + struct.pack(">H", 1234) + strings(address)
        self.give("C", raw, macros=("j", "mx.hoge.test", "{daemon_name}", "smtpd"))

    def helo(self, name: str = "client.test") -> None:
        self.give("H", strings(name))

    def mail(self, sender: str = "<a@hoge.test>") -> bool:
        return self.give("M", strings(sender, "SIZE=1000"), macros=("i", "QUEUE1", "{auth_authen}", "alice"))

    def recipient(self, recipient: str = "<b@other.test>") -> bool:
        return self.give("R", strings(recipient))

    def content(self, do: str, body: bytes = b"Hello.\r\n") -> None:
        self.give("T", b"")
        space = " " if self._agreed & _LEADING_SPACE else ""
        for name, value in (("Subject", "hi"), ("X-Twice", "one"), ("X-Twice", "two"), ("X-Do", do)):
            self.give("L", strings(name, space + value))
        self.give("N", b"")
        for at in range(0, len(body), 65_535):
            self.give("B", body[at : at + 65_535])
        self.give("E", b"")

    def message(self, do: str, body: bytes = b"Hello.\r\n") -> None:
        self.mail()
        self.recipient()
        self.content(do, body)

    def abort(self) -> None:
        self._server.send(packet("A"))

    def give(self, command: str, payload: bytes, macros: tuple[str, ...] = ()) -> bool:
        """Whether it passes."""
        if self._agreed & _LEFT_OUT.get(command, 0):
            return self._note(command, "c")
        if macros:
            self._server.send(packet("D", command.encode() + strings(*macros)))
        self._server.send(packet(command, payload))
        if self._agreed & _SILENT.get(command, 0):
            return self._note(command, "c")
        replies = [self._server.reply()]
        while replies[-1][0] not in _ENDS:
            replies.append(self._server.reply())
        (ended, words) = replies.pop()
        if ended == "y":
            return self._note(command, words)
        if command != "E":
            return self._note(command, ended)
        return self._note(command, (ended, sorted(self._changes(replies))))

    def _changes(self, replies: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """As they are meant: a body in one piece, values without the space that belongs to the colon."""
        body = b"".join(payload for kind, payload in replies if kind == "b")
        found = [(kind, self._value(kind, payload)) for kind, payload in replies if kind != "b"]
        return [*found, *([("b", body)] if body else [])]

    def _value(self, kind: str, payload: bytes) -> bytes:
        if kind in "him" and self._agreed & _LEADING_SPACE:
            name, end, value = payload[4:].partition(b"\0") if kind in "im" else payload.partition(b"\0")
            return (payload[:4] if kind in "im" else b"") + name + end + value.removeprefix(b" ")
        return payload

    def _note(self, command: str, what: object) -> bool:
        self.said.append((command, what))
        return what in _PASSES

    def close(self) -> list[tuple[str, object]]:
        self._server.send(packet("Q"))
        self._server.close()
        return self.said
