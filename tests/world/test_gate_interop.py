# The gate's milter protocol as somebody else has read it: OpenDKIM's miltertest plays the mail server. All other tests
# of this folder have Postfix as the peer.

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait

INTEROP = Path(__file__).parents[1] / "unit/gate/interop"


@pytest.fixture
def other_gate(tmp_path: Path) -> Iterator[Path]:
    """The socket of a gate whose rules make every change there is."""
    path = tmp_path / "gate"
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
