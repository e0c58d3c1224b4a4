# A wrong password at the relay looks like a quiet queue, and a gate that is down like a quiet day. Whoever looks after
# the mail hears of it within a minute: once when it begins, once when it is over, whoever is killed in between.

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alarmed import all_clear, subjects
from conftest import World, wait
from test_ledger import agents

CREDENTIAL = Path("/etc/postfix/relay_credential")


@pytest.fixture
def wrong_password(world: World) -> Iterator[Callable[[], None]]:
    """Somebody made a new one at Oracle, and this machine does not know it; called, it does."""
    all_clear(world)
    before = CREDENTIAL.read_text()

    def put(text: str) -> None:
        CREDENTIAL.write_text(text)
        subprocess.run(["postfix", "reload"], check=True, capture_output=True)

    put(before.rstrip("\n") + "x\n")
    yield lambda: put(before)
    put(before)


@pytest.mark.slow  # half a minute: until the last notice that could be doubled would have come, and until it is over
@pytest.mark.timeout(180)
def test_a_refused_password_is_told_within_a_minute_and_once_however_often_the_agent_is_killed(
    world: World, wrong_password: Callable[[], None]
) -> None:
    before = len(subjects(world, "the relay refuses the password"))

    def new() -> list[str]:
        return [
            each.partition(":")[2].split()[0]
            for each in subjects(world, "the relay refuses the password")[before:]
        ]

    began = time.monotonic()
    world.submit(world.alice, world.carol, "waits for the password")
    for _ in range(3):
        time.sleep(1.5)
        for process in agents()[-1:]:
            os.kill(process, signal.SIGKILL)
    wait(new, "the alarm", 60)
    assert time.monotonic() - began < 60
    assert "the relay refuses the password" in world.todoku("status").stdout
    time.sleep(12)  # what was in doubt is cleared up ten seconds after a start
    assert new() == ["ALARM:"]
    wrong_password()
    wait(lambda: not world.queue() or world.flush(), "the message to leave", 60)
    world.wait_for("waits for the password")
    wait(lambda: len(new()) > 1, "the end of the alarm", 60)
    for process in agents()[-1:]:
        os.kill(process, signal.SIGKILL)
    time.sleep(15)
    assert new() == ["ALARM:", "OVER:"]


@pytest.mark.slow  # a restart is no alarm, so it takes half a minute to be one
@pytest.mark.timeout(180)
def test_a_gate_that_is_down_is_told_though_no_mail_passes_without_it(world: World) -> None:
    all_clear(world)
    before = len(subjects(world, "todoku-gate does not run"))
    subprocess.run(["supervisorctl", "stop", "todoku-gate"], check=True, capture_output=True)
    try:
        wait(lambda: len(subjects(world, "todoku-gate does not run")) > before, "the alarm", 60)
        with world.port_25() as smtp:  # nothing else gets through
            assert smtp.say(f"MAIL FROM:<{world.dave}>").code // 100 == 4
    finally:
        subprocess.run(["supervisorctl", "start", "todoku-gate"], check=True, capture_output=True)
    wait(lambda: len(subjects(world, "todoku-gate does not run")) == before + 2, "its end", 60)
    assert any(
        "OVER: todoku-gate does not run" in each for each in subjects(world, "todoku-gate does not run")
    )


def test_what_others_report_is_told_and_shown_and_only_this_machine_tells_the_postmaster_past_the_gate(
    world: World,
) -> None:
    all_clear(world)
    name = f"rehearsed {time.monotonic_ns()}"
    script = (
        "from todoku.delivery import alarms\n"
        f"alarms.report('world', [alarms.Alarm('rehearsed', '{name}', 'nothing', calm=0)])"
    )
    subprocess.run(["python", "-c", script], check=True)
    try:
        wait(lambda: subjects(world, f"ALARM: {name}"), "the alarm")
        status = world.todoku("status", "--json")
        assert status.returncode == 1
        assert any(each["found"] == name for each in json.loads(status.stdout.splitlines()[-1])["alarms"])
    finally:
        subprocess.run(
            ["python", "-c", "from todoku.delivery import alarms; alarms.report('world', [])"], check=True
        )
    wait(lambda: subjects(world, f"OVER: {name}"), "its end")
    with smtplib.SMTP("127.0.0.1", 10028, timeout=10) as smtp:
        smtp.ehlo("localhost")
        smtp.mail("")
        assert smtp.rcpt(world.carol)[0] // 100 == 5  # no way out
        assert smtp.rcpt("nobody@" + world.domain)[0] // 100 == 5
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((world.ip, 10028), 2)
