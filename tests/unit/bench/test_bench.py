# A benchmark is worth what it counts: nothing that a process used is missed, nothing lost is called delivered, and no
# variant is measured that is not what it says.

from __future__ import annotations

import base64
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import gate, host, load, processes
from bench.load import Load, Refused
from bench.sink import Taken

from todoku.rehearsal.internet.pki import Authority

CHECKOUT = Path(__file__).resolve().parents[3]
BURN = "import time\nuntil = time.process_time() + {seconds}\nwhile time.process_time() < until: pass\n"


def _load(**more: object) -> Load:
    return Load(host="127.0.0.1", port=1, login="alice@hoge.example", password="secret", tag="t", **more)  # type: ignore[arg-type]


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("size", [1024, 4096, 256 * 1024])
def test_a_message_is_as_long_as_was_asked_for_and_ends_once(size: int) -> None:
    message = _load(size=size).message(3, 14, "reader1@mailbox.example")
    assert len(message) == size + len(b".\r\n")
    assert message.count(b"\r\n.\r\n") == 1
    assert b"Message-ID: <t.3.14@bench.example>\r\n" in message
    assert max(map(len, message.split(b"\r\n"))) <= 998


def test_the_time_of_children_that_have_ended_is_not_lost() -> None:
    parent = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {BURN.format(seconds=0.3)!r}])
print("done", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert processes.cpu([process.pid]) >= 0.3
            assert processes.memory([process.pid]).pss > 1_000_000
        finally:
            process.kill()


def test_the_time_of_children_that_still_run_is_counted_once() -> None:
    parent = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {(BURN.format(seconds=0.3) + "print('done', flush=True); input()")!r}],
                         stdin=subprocess.PIPE)
child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            used = processes.cpu([process.pid])
            assert 0.3 <= used < 0.6
            everyone = [process.pid, *_children(process.pid)]
            assert processes.cpu(everyone) == pytest.approx(used, abs=0.03)
        finally:
            for pid in _children(process.pid):
                os.kill(pid, 9)
            process.kill()


def test_a_program_may_be_called_anything() -> None:
    fields = "S 7 1 1 0 -1 4194304 0 0 0 0 100 20 3 4 20 0 1 0 5 0 0"
    process = processes.parse(f"42 (a) b (c) {fields}\n")
    assert (process.pid, process.parent, process.name) == (42, 7, "a) b (c")
    assert process.cpu == pytest.approx(127 / os.sysconf("SC_CLK_TCK"))


def test_messages_that_come_twice_are_told_from_those_that_come_once(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("1.0 <run.0.0@bench.example>\n2.0 <run.0.1@bench.example>\n")
    (tmp_path / "2").write_text("3.0 <run.0.1@bench.example>\n4.0 <other.0.0@bench.example>\n")
    (tmp_path / "3").write_text("5.0 <other.0.1@bench.example>\n")
    taken = Taken.read(tmp_path, "run")
    assert taken.arrivals == {"<run.0.0@bench.example>": [1.0], "<run.0.1@bench.example>": [2.0, 3.0]}
    assert (taken.connections, taken.doubled) == (2, 1)


def test_the_sink_wants_tls_and_the_password_and_writes_down_what_comes(tmp_path: Path) -> None:
    certificate, key = Authority.create(tmp_path / "pki").issue(["localhost"], tmp_path / "pki")
    records = tmp_path / "records"
    records.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "bench.sink",
        str(records),
        "127.0.0.1",
        str(port),
        str(certificate),
        str(key),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as sink:
        try:
            assert sink.stdin is not None and sink.stdout is not None
            sink.stdin.write("alice@hoge.example\nsecret\n")
            sink.stdin.close()
            assert sink.stdout.readline() == "READY\n"
            context = ssl.create_default_context(cafile=str(tmp_path / "pki/ca.pem"))
            wrong = Load("127.0.0.1", port, "alice@hoge.example", "wrong", "t", hostname="localhost")
            with pytest.raises(Refused, match="535"):
                load.Session(wrong, context)
            right = Load("127.0.0.1", port, "alice@hoge.example", "secret", "t", hostname="localhost")
            session = load.Session(right, context)
            for number in range(2):
                session.submit("alice@hoge.example", "r@m.example", right.message(0, number, "r@m.example"))
            session.close()
        finally:
            sink.terminate()
    taken = Taken.read(records, "t")
    assert sorted(taken.arrivals) == ["<t.0.0@bench.example>", "<t.0.1@bench.example>"]
    assert taken.connections == 1


def test_the_load_stops_at_a_refusal_and_says_whose_words_it_were() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if (pid := os.fork()) == 0:
            connected, _ = listener.accept()
            connected.sendall(b"554 5.3.2 not today\r\n")
            time.sleep(5)
            os._exit(0)
        try:
            refusing = Load("127.0.0.1", listener.getsockname()[1], "a", "b", "t", clients=1)
            with pytest.raises(Refused, match=r"1 of 1 clients.*554 5\.3\.2 not today"):
                load.run(refusing, 0.2)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def test_the_services_of_the_variants_differ_in_the_milter_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = tmp_path / "master.cf"
    master.write_text(
        "smtp inet n - n - - smtpd\n    -o a=b\n"
        "submission  inet n - n - - smtpd\n    -o smtpd_tls_security_level=encrypt\n    -o c=d\n"
        "submissions inet n - n - - smtpd\n"
    )
    monkeypatch.setattr(host, "MASTER", master)
    one, two = host.submission_service(10601, ""), host.submission_service(10601, "unix:bench/opendkim")
    assert one.splitlines()[0].startswith("127.0.0.1:10601 ")
    assert "    -o c=d" in one.splitlines() and "encrypt" not in one
    assert set(two.splitlines()) ^ set(one.splitlines()) == {
        "    -o smtpd_milters=",
        "    -o smtpd_milters=unix:bench/opendkim",
    }


def test_a_ratio_is_that_of_the_rounds_and_not_of_the_medians() -> None:
    def slot(rate: float) -> gate.Slot:
        return gate.Slot(1, rate, 1, 1, 1, 1, 1, 1, 1)

    result = gate.Result(
        gate.KINDS[0], {"bare": [slot(100), slot(50), slot(10)], "gate": [slot(90), slot(40), slot(9)]}
    )
    assert result.ratio("gate", "bare") == (0.8, 0.9, 0.9)


def test_the_password_is_made_cheap_and_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "dovecot.passwd"
    passwords.write_text(
        "# comment\nbob@hoge.example:{ARGON2ID}$x:::\nalice@hoge.example:{ARGON2ID}$y::::::user=alice\n"
    )
    monkeypatch.setattr(host, "PASSWORDS", passwords)
    host.cheap_password(host.World("", "", "alice@hoge.example", "secret", "", ""))
    comment, bob, alice = passwords.read_text().splitlines()
    assert (comment, bob) == ("# comment", "bob@hoge.example:{ARGON2ID}$x:::")
    name, digest, rest = alice.split(":", 2)
    assert (name, rest) == ("alice@hoge.example", ":::::user=alice")
    assert len(base64.b64decode(digest.removeprefix("{SSHA256}"))) == 32 + 8
