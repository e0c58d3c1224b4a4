# Certificates are renewed every few weeks, at night, while somebody fetches a large file. The page takes the new one in
# by itself, the download goes on, and a certificate that is broken changes nothing.

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from todoku.host.certificates.certificate import self_signed
from todoku.protect.shelf import FOLDERS, Shelf
from todoku.settings import parse
from todoku.web import __main__ as program
from todoku.web import renewed
from todoku.web.attachments import COOKIE, Desk

CONTENT = os.urandom(1_000_000) * 48  # more than lies on its way in buffers
SETTINGS = """
hostname = "localhost.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[tls]
certificate = "{0}/cert.pem"
key = "{0}/key.pem"
"""


def new_certificate(folder: Path) -> bytes:
    """As renewing does: each file is replaced at once. DER of the new one."""
    for name, content in zip(
        ("cert.pem", "key.pem"), self_signed("localhost", datetime.now(UTC)), strict=True
    ):
        beside = folder / f".{name}"
        beside.write_bytes(content)
        beside.rename(folder / name)
    return ssl.PEM_cert_to_DER_cert((folder / "cert.pem").read_text())


class Page:
    """The page as `todoku-web` serves it, on a port of loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in FOLDERS:
            (folder / name).mkdir()
        self.shown = new_certificate(folder)
        settings = parse(SETTINGS.format(folder), "todoku.toml")
        self.desk = Desk(Shelf(folder), lambda _to, _letter: None)
        self.server = program._server(self.desk, settings)
        self.listener = socket.create_server(("127.0.0.1", 0))
        pipe = renewed.keep(*program.certificate(settings), close=[self.listener.fileno()], every=0.05)
        serve = program._serve(self.server, self.desk, self.listener, pipe)
        self.thread = threading.Thread(target=lambda: asyncio.run(serve))
        self.thread.start()
        until(lambda: self.server.started)

    def connect(self) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(socket.create_connection(self.listener.getsockname(), 60))

    def certificate(self) -> bytes | None:
        with self.connect() as connection:
            return connection.getpeercert(binary_form=True)


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.server.should_exit = True
    made.thread.join(60)


def test_a_renewed_certificate_is_shown_and_a_download_that_runs_goes_on(page: Page) -> None:
    now = time.time()
    given = page.desk.shelf.give("alice@hoge.example", "x", "en", now + 1000, 3)
    given.add("a.bin", [CONTENT])
    token = given.link("carol@mailbox.example")
    given.close()
    link = page.desk.shelf.find(token, now)
    assert link
    cookie = f"{COOKIE}={page.desk.sessions.new(link.id, now)}"
    with page.connect() as download:
        download.sendall(f"GET /a/{token}/0 HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
        got = download.recv(1000)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert page.certificate() == page.shown
        fresh = new_certificate(page.folder)
        until(lambda: page.certificate() == fresh)
        while b"\r\n\r\n" not in got:
            got += download.recv(1000)
        content = bytearray(got.partition(b"\r\n\r\n")[2])
        while len(content) < len(CONTENT):
            more = download.recv(1_000_000)
            assert more, "the download was cut off"
            content += more
    assert bytes(content) == CONTENT


def test_a_broken_certificate_changes_nothing_and_the_next_good_one_is_taken(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    (page.folder / "cert.pem").write_text("no certificate")
    until(lambda: "the one before stays" in caplog.text)
    assert page.certificate() == page.shown
    fresh = new_certificate(page.folder)
    until(lambda: page.certificate() == fresh)


def test_who_looks_ends_with_the_page(tmp_path: Path) -> None:
    new_certificate(tmp_path)
    pipe = renewed.keep(tmp_path / "cert.pem", tmp_path / "key.pem", close=[], every=0.02)
    child = newest_child()
    os.close(pipe)
    until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)


def newest_child() -> int:
    return int(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()[-1])
