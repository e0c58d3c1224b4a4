"""The relay of the way-out benchmark: a lean sink with STARTTLS and AUTH PLAIN, in the place of the simulator.

It does what costs little: the same greeting and EHLO as the relay's, the password checked, each message's
Message-ID and time of arrival written down, and nothing else looked at. One process for each connection, with a
blocking socket. `python -m bench.sink FOLDER ADDRESS PORT CERTIFICATE KEY`, the login and the password on two lines
of standard input; each connection's record is a file in FOLDER.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import signal
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>\r\n]*>)", re.IGNORECASE | re.MULTILINE)
_HEAD = 16 * 1024  # bytes of a message in which its Message-ID is looked for


@dataclass(frozen=True, slots=True)
class Taken:
    """What the sink's records say of the messages of a tag: when (monotonic) each came, by Message-ID, and over how
    many connections."""

    connections: int
    arrivals: dict[str, list[float]]

    @classmethod
    def read(cls, folder: Path, tag: str) -> Taken:
        arrivals: dict[str, list[float]] = {}
        connections = set()
        for file in sorted(folder.iterdir()):
            for line in file.read_text().splitlines():
                at, _, message_id = line.partition(" ")
                if message_id.startswith(f"<{tag}."):
                    arrivals.setdefault(message_id, []).append(float(at))
                    connections.add(file.name)
        return cls(len(connections), arrivals)

    @property
    def doubled(self) -> int:
        return sum(len(times) > 1 for times in self.arrivals.values())


@dataclass(slots=True)
class _Sink:
    folder: Path
    context: ssl.SSLContext
    secret: bytes = field(repr=False)

    def serve(self, listener: socket.socket) -> None:
        """One client, from greeting to goodbye."""
        number = 0
        while True:
            connected, _ = listener.accept()
            number += 1
            if os.fork() == 0:
                try:
                    listener.close()
                    self._converse(connected, number)
                finally:
                    os._exit(0)
            connected.close()

    def _converse(self, connected: socket.socket, number: int) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = False
        stream = cast(BinaryIO, connected.makefile("rb"))
        with (self.folder / str(number)).open("w", buffering=1) as record:
            connected.sendall(b"220 bench sink\r\n")
            while line := stream.readline(4096):
                word = line[:4].upper()
                if word == b"STAR" and not secured:
                    connected.sendall(b"220 Go ahead\r\n")
                    connected = self.context.wrap_socket(connected, server_side=True)
                    stream = cast(BinaryIO, connected.makefile("rb"))
                    secured = True
                elif word == b"EHLO":
                    offer = (
                        b"250-PIPELINING\r\n250-8BITMIME\r\n250-AUTH PLAIN\r\n"
                        if secured
                        else b"250-STARTTLS\r\n"
                    )
                    connected.sendall(b"250-bench\r\n" + offer + b"250 Ok\r\n")
                elif word == b"AUTH":
                    right = hmac.compare_digest(line.split()[-1], self.secret)
                    connected.sendall(b"235 Authentication successful\r\n" if right else b"535 No\r\n")
                elif word == b"DATA":
                    connected.sendall(b"354 Go\r\n")
                    self._take(stream, record)
                    connected.sendall(b"250 Ok\r\n")
                elif word == b"QUIT":
                    connected.sendall(b"221 Bye\r\n")
                    return
                else:
                    connected.sendall(b"250 Ok\r\n")

    @staticmethod
    def _take(stream: BinaryIO, record: object) -> None:
        head: list[bytes] = []
        kept = 0
        while (line := stream.readline()) != b".\r\n":
            if not line:
                os._exit(1)  # cut off: not taken
            if kept < _HEAD:
                head.append(line)
                kept += len(line)
        found = _MESSAGE_ID.search(b"".join(head))
        message_id = found[1].decode() if found else "none"
        record.write(f"{time.monotonic()} {message_id}\n")  # type: ignore[attr-defined]


def main() -> None:
    folder, address, port, certificate, key = sys.argv[1:]
    login, password = sys.stdin.read().splitlines()
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server((address, int(port)), backlog=100)
    print("READY", flush=True)
    _Sink(Path(folder), context, base64.b64encode(f"\0{login}\0{password}".encode())).serve(listener)


def _reap() -> None:
    """Children that are waited for are in our own processor time."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
