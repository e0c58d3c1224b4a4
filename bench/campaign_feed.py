"""What feeds a mail server with the letters of the benchmark "campaign", ready to be sent: a loop over SMTP on several
connections, each in a process of its own."""

from __future__ import annotations

import base64
import os
import socket
from email.header import Header

from bench import campaign_letter as letter
from bench.host import BenchFailed

_TIMEOUT = 120.0  # seconds


def feed(port: int, numbers: range, clients: int) -> float:
    """All of `numbers` are accepted when it returns. Seconds of processor time. BenchFailed."""
    children = [_fork(port, numbers[each::clients]) for each in range(clients)]
    used, failed = 0.0, 0
    for child in children:
        _, status, usage = os.wait4(child, 0)
        used += usage.ru_utime + usage.ru_stime
        failed += status != 0
    if failed:
        raise BenchFailed(f"{failed} of {clients} that feed port {port} had to stop")
    return used


def _fork(port: int, numbers: range) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _client(port, numbers)
        code = 0
    finally:
        os._exit(code)


def _client(port: int, numbers: range) -> None:
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _expect(connected, 1, b"220")
        connected.sendall(b"EHLO feed.example\r\n")
        _expect(connected, 1, b"250")
        for number in numbers:
            envelope = f"MAIL FROM:<{letter.SENDER}>\r\nRCPT TO:<{letter.address(number)}>\r\nDATA\r\n"
            connected.sendall(envelope.encode())
            _expect(connected, 3, b"354")
            connected.sendall(message(number) + b".\r\n")
            _expect(connected, 1, b"250")
        connected.sendall(b"QUIT\r\n")


def _expect(connected: socket.socket, count: int, last: bytes) -> None:
    """So many replies, the last one with that code."""
    said = b""
    while True:
        lines = said.splitlines(keepends=True)
        replies = [line for line in lines if line[3:4] != b"-" and line.endswith(b"\n")]
        if len(replies) >= count:
            break
        if not (piece := connected.recv(4096)):
            raise BenchFailed(f"the connection was closed after {said!r}")
        said += piece
    if not replies[-1].startswith(last):
        raise BenchFailed(f"{replies[-1].decode(errors='replace').strip()}")


def message(number: int) -> bytes:
    """As any program would send it, all lines with CRLF."""
    boundary = "=_bench"
    head = {
        "From": f"{Header('ほげ', 'utf-8').encode()} <{letter.SENDER}>",
        "To": letter.address(number),
        "Subject": "=?utf-8?b?" + _base64(letter.filled(letter.SUBJECT, number)).strip() + "?=",
        "Date": "Tue, 24 Nov 2026 12:00:00 +0000",
        "Message-ID": f"<{number:08}.bench@hoge.example>",
        "MIME-Version": "1.0",
        **letter.headers(number),
        "Content-Type": f'multipart/alternative; boundary="{boundary}"',
    }
    lines = [f"{name}: {value}" for name, value in head.items()]
    for kind, text in (("plain", letter.TEXT), ("html", letter.HTML)):
        lines += ["", f"--{boundary}", f"Content-Type: text/{kind}; charset=utf-8"]
        lines += ["Content-Transfer-Encoding: base64", "", _base64(letter.filled(text, number)).rstrip()]
    return "\r\n".join([*lines, f"--{boundary}--", ""]).replace("\r\n", "\n").replace("\n", "\r\n").encode()


def _base64(text: str) -> str:
    return base64.encodebytes(text.encode()).decode()
