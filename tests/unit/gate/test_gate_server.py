# The gate as processes: it comes up, survives its workers, lets messages end, and leaves nothing behind.

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mta_side import MailServer, connect, content, envelope, negotiate

HERE = Path(__file__).parent


class Gate:
    def __init__(self, folder: Path, workers: int = 2, environ: dict[str, str] | None = None) -> None:
        self.socket = folder / "gate"
        self.log = folder / "gate.log"
        command = [
            sys.executable,
            str(HERE / "interop" / "gate_for_tests.py"),
            str(self.socket),
            "",
            str(workers),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, **(environ or {})})
        self.wait(self.socket.exists)

    def wait(self, condition, seconds: float = 15.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def client(self) -> MailServer:
        client = MailServer(self.socket)
        client.send(negotiate())
        assert client.reply()[0] == "O"
        client.send(connect())
        assert client.reply()[0] == "c"
        return client

    def begin(self, client: MailServer) -> None:
        client.send(envelope())
        assert [client.reply()[0], client.reply()[0]] == ["c", "c"]

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(15)


@pytest.fixture
def gate(tmp_path):
    running = Gate(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def do(what: str, body: bytes = b"text\r\n") -> bytes:
    return content([("X-Do", " " + what), ("Subject", " hello")], body)


def test_the_socket_is_for_the_owner_and_the_group_only(gate):
    assert stat.S_IMODE(gate.socket.stat().st_mode) == 0o660
    assert stat.S_ISSOCK(gate.socket.stat().st_mode)


def test_what_waits_until_the_mail_server_is_told_that_a_message_passes_happens_then(gate):
    client = gate.client()
    for name, do, passes in (("passed", "add", True), ("held", "hold", False), ("again", "slow", True)):
        gate.begin(client)
        client.send(content([("X-Do", f" {do}"), ("X-Tell", f" {name}")], b"text\r\n"))
        assert (client.replies()[-1] == ("c", b"")) is passes
        if passes:
            gate.wait((gate.socket.parent / name).exists)
    assert not (gate.socket.parent / "held").exists()


def test_many_messages_go_over_one_connection(gate):
    client = gate.client()
    for _ in range(50):
        gate.begin(client)
        client.send(do("add"))
        assert client.replies() == [("h", b"X-Gate\0 seen\0"), ("h", b"X-Added\0 below\0"), ("c", b"")]


def test_a_rule_that_waits_does_not_hold_up_other_connections(tmp_path):
    gate = Gate(tmp_path, workers=1)
    slow, quick = gate.client(), gate.client()
    gate.begin(slow)
    gate.begin(quick)
    go_on = tmp_path / "go on"
    slow.send(content([("X-Do", " until"), ("X-Until", f" {go_on}")], b"text\r\n"))
    quick.send(do("add"))
    assert quick.replies()[-1] == ("c", b"")
    go_on.touch()
    assert slow.replies()[0] == ("h", b"X-Slow\0 yes\0")
    assert gate.end() == 0


def test_what_breaks_the_protocol_is_cut_off_and_nobody_else_suffers(gate):
    healthy, broken = gate.client(), gate.client()
    broken.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionError):
        broken.reply()
    gate.begin(healthy)
    healthy.send(do("add"))
    assert healthy.replies()[-1] == ("c", b"")
    assert "broke the milter protocol" in gate.log.read_text()


def test_a_worker_that_is_killed_is_replaced(gate):
    before = gate.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    gate.wait(lambda: len(set(gate.workers()) - set(before)) == 2)
    client = gate.client()
    gate.begin(client)
    client.send(do("add"))
    assert client.replies()[-1] == ("c", b"")


def test_a_killed_worker_answers_nothing_so_nothing_passes(gate):
    client = gate.client()
    gate.begin(client)
    client.send(do("die"))
    with pytest.raises(ConnectionError):
        client.reply()


def test_stopping_lets_the_message_in_progress_end_and_turns_idle_clients_away(gate):
    busy, idle = gate.client(), gate.client()
    gate.begin(busy)
    gate.process.terminate()
    with pytest.raises(ConnectionError):
        idle.reply()
    assert gate.process.poll() is None
    busy.send(do("slow"))
    assert busy.replies()[-1] == ("c", b"")
    assert gate.process.wait(10) == 0
    assert not gate.socket.exists()


def test_reloading_drops_no_connection(gate):
    client = gate.client()
    gate.begin(client)
    gate.process.send_signal(signal.SIGHUP)
    gate.wait(lambda: gate.log.read_text().count("settings reloaded") == 2)
    client.send(do("add"))
    assert client.replies()[-1] == ("c", b"")


def test_workers_end_when_their_parent_is_killed(gate):
    workers = gate.workers()
    gate.process.kill()
    gate.process.wait()
    gate.wait(lambda: not any(_runs(pid) for pid in workers))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_gate_takes_over_the_socket_of_one_that_was_killed(gate, tmp_path):
    gate.process.kill()
    gate.process.wait()
    assert gate.socket.exists()
    inode = gate.socket.stat().st_ino
    second = Gate(tmp_path)
    second.wait(lambda: second.socket.stat().st_ino != inode)
    second.client().close()
    assert second.end() == 0


def test_a_folder_that_is_not_there_is_said(tmp_path):
    command = [sys.executable, str(HERE / "interop" / "gate_for_tests.py"), str(tmp_path / "no" / "gate")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "its folder has to exist" in done.stderr


def test_systemd_is_told_ready_alive_and_stopping(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        gate = Gate(tmp_path, environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        assert systemd.recv(1000).startswith(b"READY=1")
        assert systemd.recv(1000) == b"WATCHDOG=1"
        gate.process.send_signal(signal.SIGHUP)
        told = [systemd.recv(1000)]
        while told[-1] != b"READY=1":
            told.append(systemd.recv(1000))
        assert any(one.startswith(b"RELOADING=1\nMONOTONIC_USEC=") for one in told)
        assert gate.end() == 0
        while told[-1] != b"STOPPING=1":
            told.append(systemd.recv(1000))


def test_twenty_large_messages_at_once_stay_under_300_mib_in_all_processes_together(gate):
    body = (b"x" * 998 + b"\r\n") * 10_486  # 10 MiB
    clients = [gate.client() for _ in range(20)]
    outcomes: list[tuple[str, bytes]] = []

    def deliver(client: MailServer) -> None:
        gate.begin(client)
        client.send(do("count", body))
        outcomes.append(client.replies()[0])

    threads = [threading.Thread(target=deliver, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, sum(_memory(pid) for pid in [gate.process.pid, *gate.workers()]))
        time.sleep(0.02)
    assert outcomes == [("h", b"X-Count\0 " + f"{len(body)} QUEUE1 alice".encode() + b"\0")] * 20
    print(f"most memory: {most // 1024} MiB")
    assert 0 < most < 300 * 1024


def _memory(pid: int) -> int:
    """Proportional set size in KiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
