# The gate's milter protocol as somebody else has read it: OpenDKIM's miltertest plays the mail server, and libmilter,
# the reference, is told what the gate is told. All other tests of this folder have Postfix as the peer.

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait
from milter_transcript import Conversation

INTEROP = Path(__file__).parents[1] / "unit/gate/interop"


@pytest.fixture(scope="module")
def other_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a gate whose rules make every change there is."""
    path = tmp_path_factory.mktemp("gate") / "gate"
    gate = subprocess.Popen([sys.executable, str(INTEROP / "gate_for_tests.py"), str(path)])
    wait(path.exists, "the gate's socket")
    yield path
    gate.terminate()
    assert gate.wait(30) == 0


def test_miltertest_gets_every_answer_and_every_change_that_it_expects(other_gate: Path) -> None:
    script = str(INTEROP / "miltertest.lua")
    command = ["miltertest", "-D", f"socket={other_gate}", "-s", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "miltertest: all as expected" in done.stdout


@pytest.fixture(scope="module")
def libmilter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a milter that decides the same, made with libmilter."""
    path = tmp_path_factory.mktemp("libmilter") / "socket"
    peer = subprocess.Popen(["/usr/bin/python3", str(INTEROP / "libmilter_peer.py"), str(path)])
    wait(path.exists, "libmilter's socket")
    yield path
    peer.kill()  # asked to end, it takes five seconds
    peer.wait(30)


NO_SILENCE = 0x1FFFFF & ~0xFF080  # what Postfix offers, without any NR_*
OFFERS = {
    "version 6": {},
    "version 6, a reply to everything": {"steps": NO_SILENCE},
    "version 6, no leading space": {"steps": 0x0FFFFF},
    "version 4": {"version": 4, "steps": 0x3FF, "actions": 0x7F},
    "version 2": {"version": 2, "steps": 0x7F, "actions": 0x7F},
    "a later version": {"version": 7},
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
def test_libmilter_is_told_the_same_and_answers_the_same(
    other_gate: Path, libmilter: Path, offer: dict[str, int]
) -> None:
    ours, theirs = (_conversation(socket, offer) for socket in (other_gate, libmilter))
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        assert our == their, f"step {number}"
    changes = [
        what for command, what in ours if command == "E" and isinstance(what, tuple) and len(what[1]) > 1
    ]
    assert len(changes) == 8


def _conversation(socket: Path, offer: dict[str, int]) -> list[tuple[str, object]]:
    told = Conversation(socket, **offer)
    told.connect()
    told.helo()
    for do in ("add", "change", "delete-first", "envelope", "null-sender", "large-body"):
        told.message(do)
    told.message("count", b"x" * 70_000)
    told.message("refuse-body")
    told.message("hold")
    told.mail("<hold@hoge.test>")
    told.mail()
    told.recipient("<refuse@other.test>")
    told.recipient("<hold@other.test>")
    told.recipient()
    told.content("add")
    told.mail()
    told.abort()
    told.message("add")
    said = told.close()
    for client, name in (("127.0.0.9", "client.test"), ("192.0.2.1", "refuse.helo")):
        told = Conversation(socket, **offer)
        told.connect(client)
        told.helo(name)
        said += told.close()
    return said


@pytest.mark.slow  # a Postfix of its own, told everything that a milter may say, and its workers killed
def test_postfix_does_what_the_gate_says_in_every_version_of_the_protocol() -> None:
    command = [sys.executable, str(INTEROP / "postfix_peer.py"), "-v"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without a gate: 4xx" in done.stdout
    assert "FAILED" not in done.stdout
