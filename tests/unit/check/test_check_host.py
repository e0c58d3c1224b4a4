# The host: what free space, what queue, what clock is complained about, and what is not.

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from internet_for_checks import TEXT, Place
from test_check_ports import certificate

from todoku.check import host
from todoku.check.finding import Verdict
from todoku.check.means import Dns, Means
from todoku.host.client import Host
from todoku.host.services import GATE
from todoku.settings import parse

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("free", "files", "verdict"),
    [
        (20_000_000_000, 1_000_000, Verdict.PASS),
        (20_000_000_000, None, Verdict.PASS),
        (500_000_000, 1_000_000, Verdict.WARN),
        (20_000_000_000, 5_000, Verdict.WARN),
        (50_000_000, 1_000_000, Verdict.FAIL),
        (20_000_000_000, 10, Verdict.FAIL),
        (0, 0, Verdict.FAIL),
    ],
)
def test_too_little_room_is_told_before_it_is_none(free: int, files: int | None, verdict: Verdict) -> None:
    assert host.room("/var/spool/postfix", free, files).verdict is verdict


def test_the_disk_is_really_looked_at(tmp_path: Path) -> None:
    (tmp_path / "var/lib/todoku").mkdir(parents=True)
    (found,) = host.disk(Host(tmp_path), "/var/lib/todoku")
    assert found.verdict in (Verdict.PASS, Verdict.WARN, Verdict.FAIL)
    assert "GB are free" in found.seen
    (missing,) = host.disk(Host(tmp_path), "/var/spool/postfix")
    assert missing.verdict is Verdict.UNKNOWN


def entry(minutes: float, reason: str = "") -> dict[str, Any]:
    arrived = (NOW - timedelta(minutes=minutes)).timestamp()
    recipients = [{"address": "c@mailbox.example", **({"delay_reason": reason} if reason else {})}]
    return {"queue_name": "deferred", "arrival_time": int(arrived), "recipients": recipients}


def test_what_waits_for_a_moment_is_nothing_to_worry_about() -> None:
    assert host.waiting([], NOW).verdict is Verdict.PASS
    assert host.waiting([entry(5, "450 4.2.1 slow")], NOW).verdict is Verdict.PASS


def test_what_waits_for_long_is_told_with_why_and_whose_move_it_is() -> None:
    reason = "host smtp.email.ap-tokyo-1.oci.oraclecloud.com[192.0.2.20] said: 535 Authentication credentials invalid"
    found = host.waiting([entry(300, reason), entry(10), entry(200, reason)], NOW)
    assert found.verdict is Verdict.WARN
    assert "3 messages wait, the oldest for 5 hours" in found.seen
    assert "credentials invalid" in found.seen
    assert "Your move" in found.advice
    assert "todoku credential" in found.advice


def test_a_queue_that_is_long_is_told_even_when_it_is_young() -> None:
    assert host.waiting([entry(1)] * 100, NOW).verdict is Verdict.WARN


# --- the clock, against a server that tells the time -----------------------------------------------------------------


@contextmanager
def time_server(folder: Path, head: bytes) -> Iterator[Means]:
    """An HTTPS server that answers one request with `head`."""
    pem = certificate("identity.ap-tokyo-1.oci.oraclecloud.com", 30, folder)
    listener = socket.create_server(("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def serve() -> None:
        raw, _ = listener.accept()
        with raw, context.wrap_socket(raw, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(head)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def connect(_host: str, _port: int, timeout: float) -> socket.socket:
        return socket.create_connection(listener.getsockname(), timeout)

    yield Means(
        Dns(Place().lookups()),
        now=lambda: NOW,
        connect=connect,
        trust=lambda: ssl.create_default_context(cafile=str(pem)),
    )
    listener.close()
    thread.join(5)


@pytest.mark.parametrize(
    ("off", "verdict"),
    [
        (timedelta(seconds=20), Verdict.PASS),
        (timedelta(minutes=2), Verdict.WARN),
        (timedelta(minutes=-2), Verdict.WARN),
        (timedelta(hours=1), Verdict.FAIL),
        (timedelta(days=-400), Verdict.FAIL),
    ],
)
def test_a_clock_that_is_off_is_told(off: timedelta, verdict: Verdict, tmp_path: Path) -> None:
    date = format_datetime(NOW + off, usegmt=True).encode()
    with time_server(tmp_path, b"HTTP/1.1 404 Not Found\r\nDate: " + date + b"\r\n\r\n") as means:
        (found,) = host.clock(parse(TEXT, "todoku.toml"), means)
    assert found.verdict is verdict, found


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n", b"", b"\xff" * 9]
)
def test_who_does_not_tell_the_time_makes_it_unknown(head: bytes, tmp_path: Path) -> None:
    with time_server(tmp_path, head) as means:
        (found,) = host.clock(parse(TEXT, "todoku.toml"), means)
    assert found.verdict is Verdict.UNKNOWN


def test_a_resolver_that_does_not_know_the_relay_is_a_failure() -> None:
    means = Means(Dns(Place().lookups()))
    (found,) = host.resolver(parse(TEXT, "todoku.toml"), means)
    assert found.verdict is Verdict.FAIL
    assert "does not know the relay" in found.seen


# --- services ----------------------------------------------------------------------------------------------------


def test_a_service_that_does_not_run_is_named_with_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            (tmp_path / "pid").write_text(f"{process.pid}\n")
            runs = replace(GATE, name="running", process="sleep", pid_file=str(tmp_path / "pid"))
            gone = replace(GATE, name="gone", process="sleep", pid_file=str(tmp_path / "none"))
            other = replace(GATE, name="other", process="another", pid_file=str(tmp_path / "pid"))
            settings = parse(TEXT, "todoku.toml")
            monkeypatch.setattr(host, "_SERVICES", {runs: "a", gone: "no mail", other: "b"})
            found = list(host.services(settings, Host()))
            monkeypatch.setattr(host, "_SERVICES", {runs: "a"})
            (fine,) = host.services(settings, Host())
        finally:
            process.kill()
    assert [(each.verdict, each.about) for each in found] == [(Verdict.FAIL, "gone"), (Verdict.FAIL, "other")]
    assert found[0].seen == "gone does not run: no mail"
    assert (fine.verdict, fine.seen) == (Verdict.PASS, "running run")
