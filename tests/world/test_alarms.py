# A wrong password at the relay looks like a quiet queue, and a gate that is down like a quiet day. Whoever looks after
# the mail hears of it within a minute: once when it begins, once when it is over, whoever is killed in between.

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Account, World, wait
from test_ledger import agents

CREDENTIAL = Path("/etc/postfix/relay_credential")


def subjects(world: World, beginning: str) -> list[str]:
    """Of the postmaster's mail."""
    with world.imap(postmaster(world)) as imap:
        imap.select("INBOX", readonly=True)
        found = imap.search(None, "SUBJECT", f'"{beginning}"')[1][0].split()
        return [
            b" ".join(part[1].split()).decode()
            for number in found
            for part in imap.fetch(number.decode(), "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            if isinstance(part, tuple)
        ]


def postmaster(world: World) -> Account:
    text = Path("/etc/todoku/todoku.toml").read_text()
    return world.alice if f'postmaster = "{world.alice.address}"' in text else world.bob


@pytest.fixture
def wrong_password() -> Iterator[None]:
    """Somebody made a new one at Oracle, and this machine does not know it."""
    before = CREDENTIAL.read_text()
    CREDENTIAL.write_text(before.rstrip("\n") + "x\n")
    subprocess.run(["postfix", "reload"], check=True, capture_output=True)
    yield
    CREDENTIAL.write_text(before)
    subprocess.run(["postfix", "reload"], check=True, capture_output=True)


def test_a_refused_password_is_told_within_a_minute_and_once_however_often_the_agent_is_killed(
    world: World, wrong_password: None
) -> None:
    began = time.monotonic()
    world.submit(world.alice, world.carol, "waits for the password")
    for _ in range(3):
        time.sleep(1.5)
        for process in agents()[-1:]:
            os.kill(process, signal.SIGKILL)
    wait(lambda: subjects(world, "ALARM: the relay refuses the password"), "the alarm", 60)
    assert time.monotonic() - began < 60
    time.sleep(12)  # what was in doubt is cleared up ten seconds after a start
    assert len(subjects(world, "ALARM: the relay refuses the password")) == 1
