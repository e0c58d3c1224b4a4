# Promise: started as root, the gate gives that up for good and still works where it can no longer read its own code.

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from todoku.gate import privileges

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
_CHILD = """
import os
from todoku.gate import privileges
privileges.name_process()
privileges._may_read = lambda: False
privileges.drop("nobody")
import dns.rdtypes.ANY.TXT, encodings.iso2022_jp
print(os.getresuid()[0] == os.getresuid()[2] != 0, os.getgroups(), open("/proc/self/comm").read().strip())
try:
    os.setuid(0)
except PermissionError:
    print("for good")
print([line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
"""


@root_only
def test_what_is_given_up_stays_given_up() -> None:
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "True [] todoku-gate",
        "for good",
        "['NoNewPrivs:\\t1\\n']",
    ], done.stderr


@root_only
def test_a_user_who_is_not_there_is_told_with_what_makes_it() -> None:
    with pytest.raises(privileges.CannotBecome, match=r'no user "todoku-nobody"(.|\n)*todoku apply'):
        privileges.drop("todoku-nobody")


def test_who_is_not_root_has_nothing_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    privileges.drop("todoku-nobody")  # not even looked up
