"""The relay of the benchmark "campaign": a sink without TLS that does as little as an SMTP server can.

One process for each connection, blocking sockets; replies to what came together go together (RFC 2920). Of each message
it writes down the eight digits of its recipient. `python -m bench.campaign_sink FOLDER PORT`; each connection's record
is a file in FOLDER, which grows by nine octets a message.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

RECORD = 9  # octets of a message in a record


def count(folder: Path) -> int:
    """How many messages were taken."""
    return sum(each.stat().st_size for each in folder.iterdir()) // RECORD


def taken(folder: Path) -> Counter[int]:
    """How often each recipient got something."""
    return Counter(int(line) for each in folder.iterdir() for line in each.read_bytes().split())


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGCHLD, lambda *_: _reap())  # those waited for are in our own processor time
    listener = socket.create_server(("127.0.0.1", port), backlog=200)
    print("READY", flush=True)
    number = 0
    while True:
        connected, _ = listener.accept()
        number += 1
        if os.fork() == 0:
            try:
                listener.close()
                _converse(connected, os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            finally:
                os._exit(0)
        connected.close()


def _converse(connected: socket.socket, record: int) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.sendall(b"220 sink ESMTP\r\n")
    octets, recipient, in_content = b"", b"", False
    while piece := connected.recv(65536):
        octets += piece
        replies = b""
        while True:
            end = octets.find(b"\r\n.\r\n" if in_content else b"\r\n")
            if end < 0:
                break
            if in_content:
                octets, in_content = octets[end + 5 :], False
                os.write(record, recipient + b"\n")
                replies += b"250 Ok\r\n"
                continue
            line, octets = octets[:end], octets[end + 2 :]
            word = line[:4].upper()
            if word == b"RCPT":
                at = line.index(b"<p") + 2
                recipient = line[at : at + RECORD - 1]
            elif word == b"DATA":
                in_content = True
            elif word == b"QUIT":
                connected.sendall(replies + b"221 Bye\r\n")
                return
            elif word == b"EHLO":
                replies += b"250-sink\r\n250-PIPELINING\r\n"
            replies += (
                b"354 Go\r\n" if in_content else b"250 8BITMIME\r\n" if word == b"EHLO" else b"250 Ok\r\n"
            )
        if replies:
            connected.sendall(replies)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
