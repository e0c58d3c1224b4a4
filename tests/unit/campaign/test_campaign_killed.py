# listmonk, killed, never sends to those it had fetched; django-post_office sends to the whole batch again (both
# measured or read in their issues). Here: nobody is left out, and at most what was on its way comes twice.

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

from campaign_place import agree
from sink import Sink

from todoku.campaign import campaigns
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source

CONNECTIONS = 5  # of the settings


async def killed_again_and_again(opened: Opened, folder: Path, kills: int, count: int) -> Sink:
    """Until all is sent; killed `kills` times on the way, each time after another number of messages."""
    chance = random.Random(20261124)
    async with Sink() as sink:
        port = str(sink.relay.port)
        command = [sys.executable, str(Path(__file__).with_name("sending_process.py")), str(folder), port]
        for number in range(kills + 1):
            until = len(sink.taken) + chance.randrange(1, max(2, count // (kills + 1)))
            process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
            while number < kills and len(sink.taken) < until and process.returncode is None:
                await asyncio.sleep(chance.random() / 500)
            if number < kills:
                process.send_signal(signal.SIGKILL)
            _, said = await process.communicate()
            assert process.returncode == (0 if number == kills else -signal.SIGKILL), said.decode()
        return sink


def account(opened: Opened, news: int, tmp_path: Path, kills: int, count: int) -> None:
    with opened.write() as connection:
        for number in range(count):
            agree(opened, connection, news, f"p{number}@mailbox.example")
    campaigns.create(opened, "spring", "news", Source("Hi", "Hello {{ address }}"))
    campaigns.start(opened, "spring", opened.clock() + 1)
    sink = asyncio.run(killed_again_and_again(opened, tmp_path, kills, count))
    with opened.read() as connection:
        numbers = campaigns.numbers(connection, 1)
    assert numbers.sent == count
    assert set(sink.counts) == {f"p{number}@mailbox.example" for number in range(count)}
    doubled = sum(sink.counts.values()) - count
    assert doubled <= kills * CONNECTIONS
    by_person = {to: {message_id for who, message_id in sink.taken if who == to} for to in sink.counts}
    assert all(len(each) == 1 for each in by_person.values())  # who got two can tell that they are one
    print(f"{kills} kills, {count} recipients: 0 lost, {doubled} doubled")


def test_killed_twice_nobody_is_left_out(opened: Opened, news: int, tmp_path: Path) -> None:
    account(opened, news, tmp_path, 2, 120)
