# Two applies at once on one machine would undo each other's work.

import os
import signal
import subprocess
import sys

import pytest

from todoku.plan.lock import LockedError, exclusive

HOLD = """
import sys, time
from pathlib import Path
from todoku.plan.lock import exclusive
with exclusive(Path(sys.argv[1]), "`todoku apply`"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run/apply.lock"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_one_is_told_who_holds_the_lock(tmp_path, holder):
    with (
        pytest.raises(LockedError, match=rf"another `todoku apply` \(process {holder.pid}\) is running"),
        exclusive(tmp_path / "run/apply.lock", "`todoku apply`"),
    ):
        pytest.fail("both hold the lock")


def test_the_lock_of_a_killed_holder_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    with exclusive(tmp_path / "run/apply.lock", "`todoku apply`"):
        assert (tmp_path / "run/apply.lock").read_text() == f"{os.getpid()}\n"


def test_a_daemon_that_was_started_meanwhile_does_not_keep_the_lock(tmp_path):
    path = tmp_path / "apply.lock"
    with exclusive(path, "`todoku apply`"):
        daemon = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with exclusive(path, "`todoku apply`"):
            pass
    finally:
        daemon.kill()
        daemon.wait()
