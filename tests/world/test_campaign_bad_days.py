# A relay that refuses, a backup that is older than what was sent, a sender that is killed fifty times: nobody is
# left out, and nobody gets a message twice who need not.

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyrage
import pytest
import test_campaign
from conftest import CONFIG, WATCH, World, wait
from test_campaign import (
    ALARMS,
    DATABASE,
    asked,
    finished,
    got,
    looked_up,
    make,
    numbers,
    own,
    the_relay_is_asked,
)

SERVICES = ("todoku-campaign", "todoku-pages", "todoku-gate", "todoku-postfix", "todoku-dovecot")

bulk, nothing_goes_on = test_campaign.bulk, test_campaign.nothing_goes_on


@pytest.mark.slow  # the way to the postmaster's mailbox has tests of its own (test_alarms.py)
def test_a_relay_that_refuses_us_stops_it_and_is_an_alarm(world: World) -> None:
    provider, name = world.carol.partition("@")[2], own("refused")
    make(world, name, [f"{name}.p{number}@{provider}" for number in range(30)])
    said = "535 Authorization failed: Envelope From address news@hoge.example not authorized"
    service("stop", "todoku-campaign")
    try:
        asked(world, "campaign", "start", name)  # it is taken at that moment, and later it is not
        world.relay(reply={"stage": "mail", "text": said, "count": 10})
    finally:
        service("start", "todoku-campaign")
    wait(lambda: ALARMS.exists() and f"stopped:{name}" in ALARMS.read_text(), "the alarm", 30)
    assert "not authorized" in ALARMS.read_text()
    world.relay(reset=True)
    asked(world, "campaign", "start", name)
    assert finished(name, 60) == {"sent": 30}
    wait(lambda: f"stopped:{name}" not in ALARMS.read_text(), "the end of the alarm", 30)


@pytest.mark.slow  # a backup, a restore, and two applies
def test_a_campaign_of_a_restored_backup_doubles_nobody(world: World, tmp_path: Path) -> None:
    if not WATCH.exists():
        pytest.skip("this world has no cloud, so nobody to ask who got it")
    name = own("restored")
    people = [f"{name}.p{number}@{world.carol.partition('@')[2]}" for number in range(40)]
    make(world, name, people)
    (tmp_path / "key").touch(0o600)
    key = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{key}\n")
    with started_again(world):
        service("stop", "todoku-campaign")
        asked(world, "campaign", "start", name)
        asked(world, "backup", str(tmp_path / "backup"), "--recipient", str(key.to_public()))
        service("start", "todoku-campaign")
        assert finished(name, 60) == {"sent": 40}
        wait(lambda: len(got(world, name)) == 40, "all to arrive", 60)

        service("stop", *SERVICES)
        shutil.rmtree(DATABASE.parent)  # on this machine nothing is left that knows who got it
        files = (str(tmp_path / "backup"), "--identity", str(tmp_path / "key"))
        restored = asked(world, "restore", *files, "--over-newer", "--yes")
        assert (restored["paused_campaigns"], restored["taken_over"]) == ([name], None)
        assert numbers(name) == {"ready": 40}
    refused = world.todoku("campaign", "start", name, "--yes")
    assert refused.returncode == 1 and "may have been sent since then" in refused.stderr
    with the_relay_is_asked():
        wait(lambda: numbers(name) == {"sent": 40}, "what the relay's log says", 120)
    asked(world, "campaign", "start", name, "--after-restore")
    assert finished(name, 60) == {"sent": 40}
    mine = [each for each in world.arrived() if each.message["Subject"] == f"春 {name}"]
    assert len(mine) == 40


@contextmanager
def started_again(world: World) -> Iterator[None]:
    """Whatever was stopped or is missing, also after a failure."""
    try:
        yield
    finally:
        world.apply()


def service(what: str, *names: str) -> None:
    subprocess.run(["supervisorctl", what, *names], check=True, capture_output=True)


@contextmanager
def slowly(world: World) -> Iterator[None]:
    """At a pace that lets it be killed fifty times before it has done."""
    before = CONFIG.read_text()
    slow = before.replace("per_second = 400", "per_second = 30")
    assert slow != before
    try:
        CONFIG.write_text(slow)
        world.apply()
        yield
    finally:
        CONFIG.write_text(before)
        world.apply()


@pytest.mark.slow  # fifty times until it runs again
@pytest.mark.timeout(900)
def test_killed_fifty_times_nobody_is_left_out(world: World) -> None:
    count, kills, name = 6000, 50, own("kill")
    fine = [f"{name}.p{number}@{world.carol.partition('@')[2]}" for number in range(count)]
    make(world, name, fine)
    with slowly(world):
        asked(world, "campaign", "start", name)
        left_behind = killed_again_and_again(name, kills)
    assert left_behind > 0  # some of the kills hit what was on its way
    assert finished(name, 300) == {"sent": count}
    wait(lambda: len(got(world, name)) == count, "all to arrive", 300)
    mine = [each for each in world.arrived() if each.message["Subject"] == f"春 {name}"]
    doubled = len(mine) - count
    print(
        f"{kills} kills, {count} recipients: 0 lost, {doubled} doubled, {left_behind} had been on their way"
    )
    assert doubled <= min(kills * 10, left_behind)  # 10: the connections of the settings
    ids: dict[str, set[str]] = {}
    for each in mine:
        ids.setdefault(str(each.judged["rcpt_to"]), set()).add(str(each.message["Message-ID"]))
    assert all(len(found) == 1 for found in ids.values())


def killed_again_and_again(name: str, kills: int) -> int:
    """How many messages were leased at those moments."""
    chance, killed, left_behind = random.Random(20261124), set[int](), 0
    for number in range(kills):
        done = numbers(name)["sent"]
        sender = wait(partial(sending_process, killed), "it to run again", 60)
        begun = time.monotonic()
        wait(partial(has_sent_more, name, done), "it to send again", 60)
        # supervisord starts at once what had run for two seconds.
        time.sleep(max(0.0, begun + 2.2 - time.monotonic()) + chance.random() / 2)
        os.kill(sender, signal.SIGKILL)
        killed.add(sender)
        # In the middle of it: otherwise the kill would show nothing.
        assert looked_up("SELECT state FROM campaign WHERE name = ?", name) == [("started",)], number
        left_behind += numbers(name)["leased"]
    return left_behind


def has_sent_more(name: str, before: int) -> bool:
    return numbers(name)["sent"] > before


def sending_process(not_these: set[int]) -> int | None:
    """The one that has given its rights up."""
    command = ["pgrep", "-x", "-U", "todoku-campaign", "todoku-campaign"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return next((int(each) for each in found if int(each) not in not_these), None)
