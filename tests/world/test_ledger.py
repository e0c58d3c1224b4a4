# "The log says sent" is where most people's knowledge ends. Here every message has an answer: what became of it, for
# each recipient, in the other side's words; whatever happens to the log, and whoever is killed in between.

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import World, wait


def journeys(world: World, what: str) -> list[dict[str, Any]]:
    done = world.todoku("trace", what, "--json")
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["messages"]
    return found


def settled(world: World, subject: str, address: str, state: str, seconds: float = 20) -> dict[str, Any]:
    """The journey of that message, once its recipient is in that state; what was accepted may be relayed by now."""
    states = {state, "relayed"} if state == "accepted" else {state}

    def find() -> dict[str, Any] | None:
        for journey in journeys(world, f"<{subject.replace(' ', '-')}@{world.domain}>"):
            if any(r["address"] == address and r["state"] in states for r in journey["recipients"]):
                return journey
        return None

    return wait(find, f"{address} to be {state} in the ledger: {journeys(world, address)}", seconds)


def tries(journey: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of Postfix; what the relay's own log says is not among them."""
    return [each for each in journey["recipients"][0]["attempts"] if each["state"] != "relayed"]


def test_a_submitted_message_has_its_whole_journey_in_the_ledger(world: World) -> None:
    world.submit(world.alice, world.carol, "journey out")
    journey = settled(world, "journey out", world.carol, "accepted")
    assert journey["login"] == journey["sender"] == world.alice.address
    assert journey["gate"] == "passed"
    assert journey["size"] > 100
    assert journey["subject"] == ""  # not kept unless asked for
    (carol,) = journey["recipients"]
    assert carol["attempts"][0]["words"].startswith("250 Ok")
    assert carol["attempts"][0]["host"].startswith(world.described["relay"]["hostname"])
    assert journey["removed"]
    text = world.todoku("trace", world.carol).stdout
    assert "logged in as" in text
    assert (
        "has not said yet what became of it" in text or "accepted by the recipient's own mail server" in text
    )


def test_mail_to_one_another_and_from_outside_is_delivered_here(world: World) -> None:
    world.submit(world.alice, world.bob.address, "journey inside")
    settled(world, "journey inside", world.bob.address, "delivered")
    assert world.outside_sends(world.bob.address, "journey in").returncode == 0
    wait(
        lambda: any(r["state"] == "delivered" for j in journeys(world, world.dave) for r in j["recipients"]),
        "dave",
    )


# Each reply of Oracle's list, at the stage where it is given, and what becomes of the recipient.
REPLIES = [
    ("rcpt", "455 Maximum messages sent per minute reached : limit is 10", "deferred"),
    ("rcpt", "455 Maximum messages sent per day reached : limit is 200", "deferred"),
    ("eom", "451 Server error", "deferred"),
    ("eom", "452 System storage error", "deferred"),
    ("mail", "421 4.3.0 Mail system failure, closing transmission channel", "deferred"),
    ("rcpt", "553 <x> Invalid email address", "bounced"),
    ("eom", "554 Message parse error", "bounced"),
    ("eom", "552 Exceeds byte limit", "bounced"),
    ("rcpt", "254 4.7.1 Suppression for user ocid1.user.oc1..a to x@mailbox.example", "suppressed"),
    ("eom", "254 4.7.1 Suppression for user ocid1.user.oc1..a to x@mailbox.example", "suppressed"),
]


@pytest.mark.parametrize(("number", "stage", "text", "state"), [(n, *r) for n, r in enumerate(REPLIES)])
def test_each_reply_of_the_relay_is_in_the_ledger_in_its_own_words(
    world: World, number: int, stage: str, text: str, state: str
) -> None:
    world.relay(reply={"stage": stage, "text": text, "count": 1})
    subject = f"reply {number} {time.monotonic_ns()}"
    world.submit(world.alice, world.carol, subject)
    journey = settled(world, subject, world.carol, state)
    (carol,) = journey["recipients"]
    assert text.split(" ", 1)[1].replace("4.7.1", "5.7.1") in carol["words"]
    if number == 0:
        waiting = world.todoku("queue").stdout
        assert journey["queue_id"] in waiting
        assert "tried again" in waiting
        world.flush()
        settled(world, subject, world.carol, "accepted")


def test_what_the_gate_refuses_is_in_the_ledger_with_its_words(world: World) -> None:
    with world.submission(world.alice) as smtp:
        smtp.say(f"MAIL FROM:<{world.alice.address}>")
        smtp.say(f"RCPT TO:<{world.carol}>")
        reply = smtp.message(
            f"From: {world.bob.address}\nTo: {world.carol}\nSubject: forged\n"
            f"Date: Tue, 24 Nov 2026 00:00:00 +0000\nMessage-ID: <forged@{world.domain}>\n\nx\n"
        )
    assert reply.code == 550
    journey = settled(world, "forged", world.carol, "refused")
    assert (journey["gate"], journey["rule"]) == ("refused", "sender_belongs")
    assert "From says" in journey["words"]


def test_rotation_in_mid_stream_loses_and_doubles_nothing(world: World) -> None:
    subjects = [f"rotate {number} {time.monotonic_ns()}" for number in range(12)]
    for number, subject in enumerate(subjects):
        world.submit(world.alice, world.carol, subject)
        if number == 4:
            subprocess.run(["postfix", "logrotate"], check=True, capture_output=True)
        if number == 8:  # as logrotate's copytruncate does
            log = Path("/var/log/mail.log")
            Path("/var/log/mail.log.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)
    for subject in subjects:
        journey = settled(world, subject, world.carol, "accepted")
        assert len(tries(journey)) == 1


def agents() -> list[int]:
    found = subprocess.run(["pgrep", "-x", "todoku-agent"], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def test_killed_at_any_moment_it_misses_nothing_and_writes_nothing_twice(world: World) -> None:
    subjects = [f"killed {number} {time.monotonic_ns()}" for number in range(12)]
    for number, subject in enumerate(subjects):
        world.submit(world.alice, world.carol, subject)
        if number % 4 == 0:
            time.sleep(number * 0.07)
            for process in agents()[-1:]:
                os.kill(process, signal.SIGKILL)
    for subject in subjects:
        journey = settled(world, subject, world.carol, "accepted", 60)
        assert len(journey["recipients"]) == len(tries(journey)) == 1
        assert len(journeys(world, journey["message_id"])) == 1


def test_the_agent_works_as_a_user_of_its_own_who_can_read_neither_passwords_nor_mail(world: World) -> None:
    workers = [pid for pid in agents() if Path(f"/proc/{pid}").stat().st_uid != 0]
    assert len(workers) == 1
    status = Path(f"/proc/{workers[0]}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    probe = ["runuser", "-u", "todoku-agent", "--", "test", "-r"]
    for path in (
        "/var/lib/todoku/todoku.sqlite3",
        "/var/lib/todoku/mail",
        "/etc/todoku/secrets",
        "/var/log/mail.log",
    ):
        assert subprocess.run([*probe, path], check=False).returncode, path


def test_stats_count_what_there_was(world: World) -> None:
    counted = json.loads(world.todoku("stats", "--by", "account", "--json").stdout)["counts"]
    (alice,) = (each for each in counted if each["of"] == world.alice.address)
    assert alice.get("accepted", 0) + alice.get("relayed", 0) > 10
    assert world.alice.address in world.todoku("stats", "--by", "account").stdout


def test_status_is_calm_until_something_is_wrong_and_then_ends_with_1(world: World) -> None:
    wait(lambda: world.flush() or not world.queue(), "an empty queue", 60)
    calm = json.loads(world.todoku("status", "--json").stdout)
    assert [alarm for alarm in calm["alarms"] if not alarm["name"].startswith("disk")] == []
    assert calm["services"] == dict.fromkeys(("postfix", "dovecot", "todoku-gate", "todoku-agent"), True)
    # A password that the relay refuses: the mail waits, and nothing in a mailbox would tell.
    world.relay(reply={"stage": "auth", "text": "535 Authentication credentials invalid", "count": 20})
    subject = f"status {time.monotonic_ns()}"
    time.sleep(11)  # a connection that is kept would need no password
    world.submit(world.alice, world.carol, subject)
    settled(world, subject, world.carol, "deferred")
    alarmed = world.todoku("status")
    assert alarmed.returncode == 1
    assert "ALARM the relay refuses the password" in alarmed.stdout
    assert "credential rotate" in alarmed.stdout
    assert "refuses our password" in world.todoku("queue").stdout
    world.relay(reply=None)
    world.flush()
    settled(world, subject, world.carol, "accepted")


def test_a_sender_that_the_relay_does_not_accept_yet_waits_and_does_not_bounce(world: World) -> None:
    text = f"535 Authorization failed: Envelope From address {world.alice.address} not authorized"
    world.relay(reply={"stage": "mail", "text": text, "count": 1})
    subject = f"young sender {time.monotonic_ns()}"
    world.submit(world.alice, world.carol, subject)
    settled(world, subject, world.carol, "deferred")
    assert "does not (yet) accept this sender" in world.todoku("queue").stdout
    world.flush()
    settled(world, subject, world.carol, "accepted")
