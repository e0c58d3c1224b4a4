# Whoever opens a connection and says nothing, or something that is no request, is gone soon and learns nothing.

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from todoku.protect.shelf import FOLDERS, Shelf
from todoku.web import __main__ as program
from todoku.web import forms
from todoku.web.application import application
from todoku.web.attachments import Desk


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The page as `todoku-web` serves it, on loopback and without TLS."""
    monkeypatch.setattr(program, "_PATIENCE", 0.3)
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    app = application(Desk(Shelf(tmp_path), lambda _to, _letter: None))
    config = uvicorn.Config(
        app,
        http=program._Patient,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=1,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    host, port = listener.getsockname()
    yield host, port
    server.should_exit = True
    thread.join(10)


def said(address: tuple[str, int], octets: bytes) -> bytes:
    """Everything until the server closes the connection."""
    with socket.create_connection(address, 5) as connection:
        connection.sendall(octets)
        answer = b""
        while got := connection.recv(65536):
            answer += got
        return answer


def test_silence_is_not_kept(address: tuple[str, int]) -> None:
    began = time.monotonic()
    assert said(address, b"") == b""
    assert said(address, b"GET / HTTP/1.1\r\nHost: x\r\nX: ") == b""  # never finished
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /a/x\r\nSet-Cookie: a=b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a/x HTTP/1.1\r\nHost: x\r\nCookie: todoku=\x00\r\n\r\n",
        b"POST /a/x/open HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["a line end in the path", "a NUL", "two lengths", "TLS", "a huge header"],
)
def test_what_is_no_request_gets_no_page(address: tuple[str, int], request_: bytes) -> None:
    answer = said(address, request_)
    assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 404")
    assert b"set-cookie" not in answer.lower()


def test_a_form_that_comes_drop_by_drop_is_not_waited_for(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "_FORM_SECONDS", 0.3)
    began = time.monotonic()
    head = b"POST /a/x/open HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ncode="
    assert said(address, head).startswith(b"HTTP/1.1 403")
    assert time.monotonic() - began < 4


def test_a_request_is_answered_and_the_server_is_not_named(address: tuple[str, int]) -> None:
    answer = said(address, b"GET /a/x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"evil.example" not in answer
    assert b"\r\nserver:" not in answer.lower()
