# The relay keeps a list of addresses that it takes mail for and sends nothing to. Who is on it, why, and how to get off
# it again is asked where the mail system is, not in a console.

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONFIG, World, wait
from test_ledger import agents, settled

if "\n[cloud]\n" not in CONFIG.read_text():
    pytest.skip("this world has no cloud, so nobody to ask", allow_module_level=True)


def listed(world: World) -> dict[str, str]:
    done = world.todoku("suppression", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {each["address"]: each["reason"] for each in json.loads(done.stdout)["suppressions"]}


def test_lifted_and_sent_again_it_arrives(world: World) -> None:
    # A hard bounce at the far end: the relay had accepted it, and suppresses the address from then on.
    world.watch_relay(False)
    gone = world.carol.replace("carol", "unknown.lift")
    world.submit(world.alice, gone, "bounces there")
    settled(world, "bounces there", gone, "accepted")
    wait(lambda: listed(world).get(gone) == "HARDBOUNCE", "the suppression")
    world.submit(world.alice, gone, "dropped")
    settled(world, "dropped", gone, "suppressed")
    lifted = world.todoku("suppression", "lift", gone.upper())
    assert lifted.returncode == 0, lifted.stderr
    assert "550" in lifted.stdout  # what its server had said
    assert gone not in listed(world)
    world.submit(world.alice, gone, "sent again")
    settled(world, "sent again", gone, "accepted")
    assert "is not suppressed" in world.todoku("suppression", "lift", "nobody@mailbox.example").stdout


def test_added_by_hand_nothing_is_sent_there(world: World) -> None:
    world.watch_relay(False)
    frank = world.carol.replace("carol", "frank")
    assert world.todoku("suppression", "add", frank).returncode == 0
    assert "it was suppressed" in world.todoku("suppression", "add", frank).stdout
    assert listed(world)[frank] == "MANUAL"
    assert "somebody put it on the list" in world.todoku("suppression", "list").stdout
    world.submit(world.alice, frank, "not to frank")
    settled(world, "not to frank", frank, "suppressed")
    assert world.todoku("suppression", "lift", frank).returncode == 0
    refused = world.todoku("suppression", "add", "no address")
    assert refused.returncode == 2


@pytest.fixture
def watching(world: World) -> Iterator[None]:
    """todoku-relay as it is, but it asks every second."""
    world.watch_relay(False)
    command = ["python", "-I", "-m", "todoku.cli.services.relay_watch", "--every", "1"]
    watch = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield
    watch.terminate()
    watch.wait(10)


def test_a_bounce_that_the_relay_keeps_for_itself_is_in_the_ledger_and_the_next_mail_is_refused_at_once(
    world: World, watching: None
) -> None:
    gone = world.carol.replace("carol", "unknown.kept")
    world.submit(world.alice, gone, "kept for itself")
    journey = settled(world, "kept for itself", gone, "bounced", 40)
    assert [tried["state"] for tried in journey["recipients"][0]["attempts"]] == ["accepted", "bounced"]
    assert "550" in journey["recipients"][0]["words"]
    assert "mx.mailbox.example" in str(journey)
    wait(
        lambda: gone in str(world.read(world.alice, "Undelivered Mail Returned to Sender")), "the notice", 30
    )
    notice = world.read(world.alice, "Undelivered Mail Returned to Sender")
    assert notice.get_content_type() == "multipart/report"
    assert "did not arrive" in notice.get_body().get_content()  # type: ignore[union-attr]
    fields = list(notice.iter_parts())[1].get_payload()
    assert fields[1]["Final-Recipient"] == f"rfc822; {gone}"
    assert fields[1]["Diagnostic-Code"].strip().startswith("smtp; 550")
    wait(lambda: Path("/var/lib/todoku/exchange/suppressed").read_text().startswith(gone), "the gate's list")
    time.sleep(1.1)  # the gate looks once a second
    assert "todoku suppression lift" in _rcpt(world, gone)
    assert world.todoku("suppression", "lift", gone).returncode == 0
    wait(lambda: _rcpt(world, gone).startswith("250"), "the gate to let it pass again", 30)


def test_killed_at_any_time_no_notice_is_missing_and_none_comes_twice(world: World, watching: None) -> None:
    gone = [world.carol.replace("carol", f"unknown.killed{number}") for number in range(5)]
    for number, address in enumerate(gone):
        world.submit(world.alice, address, f"killed notice {number} {time.monotonic_ns()}")
        time.sleep(number * 0.7)
        for process in agents()[-1:]:
            os.kill(process, signal.SIGKILL)
    for address in gone:
        wait(lambda address=address: _notices(world, address) == 1, f"the notice about {address}", 60)
    time.sleep(15)  # what was in doubt is cleared up ten seconds after a start
    assert [_notices(world, address) for address in gone] == [1] * 5


def _notices(world: World, about: str) -> int:
    with world.imap(world.alice) as imap:
        imap.select("INBOX", readonly=True)
        return len(imap.search(None, "BODY", f'"rfc822; {about}"')[1][0].split())


def _rcpt(world: World, to: str) -> str:
    with world.submission(world.alice) as smtp:
        smtp.say(f"MAIL FROM:<{world.alice.address}>")
        reply = smtp.say(f"RCPT TO:<{to}>")
        return f"{reply.code} {reply.text}"


def test_a_cloud_that_fails_is_told_in_words(world: World) -> None:
    world.relay(rest={"status": 404, "count": 9, "operation": "list_suppressions"})
    done = world.todoku("suppression", "list")
    assert done.returncode == 1
    assert "to read suppressions in tenancy" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
