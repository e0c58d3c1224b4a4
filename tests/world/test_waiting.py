# What cannot leave now is not lost, not hurried and not forgotten: it waits at the pace of the relay's plan, its sender
# hears of it after four hours and at the deadline, once each, and a used-up day goes on the next.

from __future__ import annotations

import itertools
import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import CONFIG, World, wait
from test_ledger import settled
from typer.testing import CliRunner

from todoku.cli.main import app
from todoku.delivery import left as leaving
from todoku.delivery.left import Left
from todoku.delivery.record import LEFT
from todoku.host.postfix.pace import pace
from todoku.settings import load
from todoku.store import ledger

SPOOL = Path("/var/spool/postfix")
MAIN_CF = Path("/etc/postfix/main.cf")
HOUR, DAY = 3600, 86_400


def queued(world: World, to: str) -> str:
    """The queue ID of the message to `to`, once its first try has failed."""

    def find() -> str | None:
        for message in world.queue():
            (recipient,) = message["recipients"]
            if (
                recipient["address"] == to
                and message["queue_name"] == "deferred"
                and recipient.get("delay_reason")
            ):
                return str(message["queue_id"])
        return None

    return wait(find, f"the mail to {to} in the deferred queue")


def all_deferred(world: World, number: int) -> None:
    """So many have been tried in vain: one that is just being tried would miss that it can leave now."""

    def deferred() -> bool:
        found = [message for message in world.queue() if message["queue_name"] == "deferred"]
        return sum(bool(each.get("delay_reason")) for m in found for each in m["recipients"]) >= number

    wait(deferred, f"{number} messages in the deferred queue", 60)


def date_back(queue_id: str, seconds: int) -> None:
    """As if it had been in the queue for that much longer: the times in its queue file."""
    (path,) = SPOOL.glob(f"deferred/*/{queue_id}")

    def earlier(found: re.Match[bytes]) -> bytes:
        return b"%d" % (int(found[0]) - seconds)

    # Of about now, that is: seconds since 1970, ten digits, in the records for arrival and warning.
    now = int(time.time())
    octets = path.read_bytes()
    dated = re.sub(
        rb"(?<!\d)\d{10}(?!\d)", lambda f: earlier(f) if abs(int(f[0]) - now) < 10 * DAY else f[0], octets
    )
    assert dated != octets
    with path.open("r+b") as file:
        file.write(dated)


def again(world: World, queue_id: str) -> None:
    """Tried once more, and deferred again or given up."""
    tries = world.log().count(f"{queue_id}: to=") + world.log().count(f"{queue_id}: removed")
    subprocess.run(["postqueue", "-i", queue_id], check=True)
    wait(
        lambda: world.log().count(f"{queue_id}: to=") + world.log().count(f"{queue_id}: removed") > tries,
        "another try",
    )
    time.sleep(0.5)


def test_the_sender_hears_once_that_it_is_late_and_once_that_it_was_given_up(world: World) -> None:
    late = f"late.{time.monotonic_ns()}@mailbox.example"
    counts = [world.count(world.alice, "Delayed Mail"), world.count(world.alice, "Undelivered Mail")]

    def told() -> list[int]:
        now = [world.count(world.alice, "Delayed Mail"), world.count(world.alice, "Undelivered Mail")]
        return [n - before for n, before in zip(now, counts, strict=True)]

    world.relay(down=True)
    world.submit(world.alice, late, f"late {late}")
    queue_id = queued(world, late)
    again(world, queue_id)
    assert told() == [0, 0]
    date_back(queue_id, 4 * HOUR)
    again(world, queue_id)
    wait(lambda: told() == [1, 0], "the notice that it is late")
    again(world, queue_id)
    assert told() == [1, 0]
    notice = world.read(world.alice, "Delayed Mail")
    assert notice.get_content_type() == "multipart/report"
    assert late in str(notice)
    assert "4 hour(s)" in str(notice)
    date_back(queue_id, 2 * DAY)
    again(world, queue_id)
    wait(lambda: told() == [1, 1], "the notice that it was given up")
    assert late in str(world.read(world.alice, "Undelivered Mail"))
    journey = settled(world, f"late {late}", late, "expired")
    assert journey["recipients"][0]["attempts"][0]["state"] == "deferred"
    assert not [m for m in world.queue() if m["queue_id"] == queue_id]
    assert told() == [1, 1]


def test_when_the_days_plan_is_used_up_the_rest_waits_and_leaves_the_next_day(world: World) -> None:
    stamp = time.monotonic_ns()
    to = {f"day{number}.{stamp}@mailbox.example" for number in range(5)}

    def held() -> dict[str, str]:
        """Who waits, and what is said about it."""
        shown = json.loads(world.todoku("queue", "--json").stdout.splitlines()[-1])["messages"]
        found = {each["recipients"][0][0]: each["meanings"][0] for each in shown}
        return {address: found[address] for address in to & found.keys()}

    world.relay(limits={"per_day": 3})
    for address in to:
        world.submit(world.alice, address, f"for {address}")
    wait(lambda: all(held().values()) and len(held()) == 2, "two to be held back")
    assert set(held().values()) == {
        "the relay's plan is used up; it is tried again until there is room in it"
    }
    status = world.todoku("status")
    assert status.returncode == 1
    assert "the relay says that its plan is used up" in status.stdout
    world.flush()
    time.sleep(1)
    assert len(held()) == 2  # trying does not help
    world.relay(advance_s=DAY)
    world.flush()
    wait(lambda: to <= {str(a.judged["rcpt_to"]) for a in world.arrived()}, "all five at the provider", 30)
    assert "its plan is used up" not in world.todoku("status").stdout


def test_the_relay_never_has_to_say_that_the_day_is_used_up_and_the_rest_leaves_the_next_day(
    world: World,
) -> None:
    # 61 emails a day and a minute, of which 55 were used an hour ago: the relay has 6 left, and would say 455 then.
    before, main = CONFIG.read_text(), MAIN_CF.read_text()
    stamp = time.monotonic_ns()
    to = {f"{name}.{stamp}@mailbox.example" for name in ("a", "b", "c", "d", "e", "f", "g")}

    def shown() -> dict[str, dict[str, Any]]:
        messages = json.loads(world.todoku("queue", "--json").stdout.splitlines()[-1])["messages"]
        shown = {each["recipients"][0][0]: each for each in messages if each["recipients"]}
        return {address: each for address, each in shown.items() if address in to}

    def left() -> set[str]:
        return {str(each["rcpt_to"][0]) for each in world.relay()["seen"]["submitted"]} & to

    world.relay(down=True, limits={"per_day": 6})
    for address in sorted(to):
        world.submit(world.alice, address, f"for {address}")
    all_deferred(world, len(to))
    try:
        text = before.replace("per_minute = 18000", "per_minute = 61").replace(
            "per_day = 50000", "per_day = 61"
        )
        CONFIG.write_text(text)
        speed = pace(load(CONFIG).relay.plan)
        postconf(
            relay_transport_rate_delay=f"{speed.delay}s", relay_destination_recipient_limit=speed.recipients
        )
        used(lambda now: Left().with_more([(now - HOUR, 55)]))
        world.relay(down=False)
        world.flush()
        wait(
            lambda: len(left()) + len(waiting(shown())) == len(to),
            "some to leave, and the others to wait",
            180,
        )
        went = len(left())
        assert 1 <= went < len(to)
        kept = list(waiting(shown()).values())
        assert {each["meanings"][0] for each in kept} == {
            "the relay's plan is used up; it leaves once there is room"
        }
        # an hour ago, and a day later: told to the second
        assert all(22.5 * HOUR < each["next"] - time.time() < 23.5 * HOUR for each in kept)
        world.submit(world.alice, world.bob.address, f"inside {stamp}")
        world.read(world.bob, f"inside {stamp}")
        assert "the relay's plan is used up, and" in world.todoku("status").stdout
        assert len(left()) == went
        # the next day
        world.relay(advance_s=DAY)
        used(lambda now: Left().with_more([(now - HOUR - DAY, 55 + went)]))
        wait(lambda: left() == to, "all the others to leave", 180)
        assert "455" not in world.relay()["seen"]["reply_codes"]
    finally:
        CONFIG.write_text(before)
        MAIN_CF.write_text(main)
        used(lambda _now: Left())


def waiting(shown: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those that wait for room in the plan."""
    return {to: each for to, each in shown.items() if "it leaves once there is room" in each["meanings"][0]}


def used(what: Callable[[float], Left]) -> None:
    """The agent is killed, and the next one believes that this has left, and that no bulk mail was sent."""
    (leaving.BULK / leaving.FILE).unlink(missing_ok=True)
    with closing(sqlite3.connect(ledger.FILE, timeout=30)) as connection, connection:
        connection.execute("DELETE FROM checkpoint WHERE source = ?", (LEFT,))
        connection.execute("INSERT INTO checkpoint VALUES (?, ?)", (LEFT, what(time.time()).text()))
    subprocess.run(["supervisorctl", "signal", "KILL", "todoku-agent"], check=True, capture_output=True)


def postconf(**wanted: str | int) -> None:
    subprocess.run(["postconf", "-e", *(f"{name}={value}" for name, value in wanted.items())], check=True)
    subprocess.run(["postfix", "reload"], check=True, capture_output=True)


def test_a_queue_that_has_grown_leaves_at_the_pace_of_the_plan_and_says_whose_turn_it_is(
    world: World,
) -> None:
    before, main = CONFIG.read_text(), MAIN_CF.read_text()

    def slower() -> None:
        CONFIG.write_text(before.replace("per_minute = 18000", "per_minute = 100"))
        # As `todoku apply` would write it, which would take longer than all the rest here.
        speed = pace(load(CONFIG).relay.plan)
        postconf(
            relay_transport_rate_delay=f"{speed.delay}s", relay_destination_recipient_limit=speed.recipients
        )

    try:
        gaps = _work_off(world, slower, per_minute=100, messages=5)
    finally:
        CONFIG.write_text(before)
        MAIN_CF.write_text(main)
        subprocess.run(["postfix", "reload"], check=True, capture_output=True)
    # A second each; a message that is written down late, on a busy machine, is nearer to the next.
    assert sum(gaps) > 0.8 * len(gaps)
    assert min(gaps) > 0.3


@pytest.mark.slow  # a minute and a half: more than a minute's worth of the smallest plan, at its pace
@pytest.mark.timeout(300)
def test_the_smallest_plan_never_hears_that_its_minute_is_used_up(world: World, settings_file: Path) -> None:
    def slower() -> None:
        text = settings_file.read_text()
        settings_file.write_text(text.replace("per_minute = 18000", "per_minute = 10"))
        world.apply()

    gaps = _work_off(world, slower, per_minute=10, messages=12)
    assert min(gaps) > 6


def _work_off(world: World, slower: Callable[[], None], per_minute: int, messages: int) -> list[float]:
    """Seconds between the messages that the relay got, once it is there again and has the plan's limit.

    They were submitted while the plan was larger: the gate counts as well.
    """
    stamp = time.monotonic_ns()
    world.relay(down=True, limits={"per_minute": per_minute})
    for number in range(messages):
        world.submit(world.alice, world.carol, f"pace {stamp} {number}")
    all_deferred(world, messages)
    slower()

    def shown() -> list[dict[str, Any]]:
        """By this process: one of its own takes as long to start, on a busy machine, as the queue to leave."""
        done = CliRunner().invoke(app, ["queue", "--json"])
        return [each for each in json.loads(done.stdout.splitlines()[-1])["messages"] if each["turn"]]

    def submitted() -> list[float]:
        return [each["time"] for each in world.relay()["seen"]["submitted"]]

    world.relay(down=False)
    world.flush()
    turns = wait(shown, "some to wait for their turn", 30)
    assert f"the relay's plan has {per_minute} emails a minute" in turns[-1]["meanings"][0]
    assert turns[-1]["next"] > time.time()
    wait(lambda: len(submitted()) == messages, "all of them", 60 + 10 * messages)
    assert "455" not in world.relay()["seen"]["reply_codes"]
    return [later - earlier for earlier, later in itertools.pairwise(submitted())]
