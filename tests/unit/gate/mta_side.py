"""The mail server's side of the milter protocol, as little as the tests need; shared by the gate's tests."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from pathlib import Path

ALL = 0x1FFFFF


def packet(command: str, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload) + 1) + command.encode() + payload


def strings(*texts: str) -> bytes:
    return b"".join(text.encode() + b"\0" for text in texts)


def negotiate(version: int = 6, actions: int = 0x1FF, steps: int = ALL) -> bytes:
    return packet("O", struct.pack(">III", version, actions, steps))


def connect(address: str = "192.0.2.1") -> bytes:
    return packet("C", b"client.test\0" + b"4" + struct.pack(">H", 1234) + strings(address))


def envelope(sender: str = "<a@hoge.test>", recipients: Iterable[str] = ("<b@other.test>",)) -> bytes:
    macros = packet("D", b"M" + strings("i", "QUEUE1", "{auth_authen}", "alice"))
    return macros + packet("M", strings(sender)) + b"".join(packet("R", strings(one)) for one in recipients)


def content(
    headers: Iterable[tuple[str, str]] = (("Subject", " hello"),), body: bytes = b"text\r\n"
) -> bytes:
    return (
        b"".join(packet("L", strings(name, value)) for name, value in headers)
        + packet("N")
        + b"".join(packet("B", body[at : at + 65_535]) for at in range(0, len(body), 65_535))
        + packet("E")
    )


def split(raw: bytes) -> list[tuple[str, bytes]]:
    """Replies: command and payload."""
    found = []
    while raw:
        (length,) = struct.unpack(">I", raw[:4])
        found.append((chr(raw[4]), raw[5 : 4 + length]))
        raw = raw[4 + length :]
    return found


class MailServer:
    """A connection to a running gate."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def reply(self) -> tuple[str, bytes]:
        length = int.from_bytes(self._exactly(4), "big")
        raw = self._exactly(length)
        return chr(raw[0]), raw[1:]

    def replies(self) -> list[tuple[str, bytes]]:
        """Up to and including the one that ends the event."""
        found = [self.reply()]
        while found[-1][0] not in "cartdys":
            found.append(self.reply())
        return found

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        raw = b""
        while len(raw) < size:
            more = self._socket.recv(size - len(raw))
            if not more:
                raise ConnectionError("the gate closed the connection")
            raw += more
        return raw
