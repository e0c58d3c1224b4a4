# Every reply that Oracle documents, at the stage where it can be given: what becomes of the message, what its sender is
# told, and what the postmaster. "A success code", "a quiet queue" and "a bounce for a sender that was approved a minute
# ago" are what people lose days to.

from __future__ import annotations

import email
import email.policy
import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from alarmed import all_clear, postmaster, subjects
from conftest import World, wait

DEFERRED, BOUNCED, SUPPRESSED = "deferred", "bounced", "suppressed"
PASSWORD, SENDER, QUOTA = (
    "the relay refuses the password",
    "the relay does not accept a sender",
    "the relay says that",
)


@dataclass(frozen=True)
class Said:
    """`becomes`: of the recipient, in the ledger. `alarm`: what the postmaster's mail is about, if there is one."""

    stage: str
    text: str
    becomes: str
    alarm: str = ""


def at(stages: str, text: str, becomes: str, alarm: str = "") -> list[Said]:
    return [Said(stage, text, becomes, alarm) for stage in stages.split()]


REPLIES = [
    *at("rcpt eom", "254 4.7.1 Suppression for user ocid1.user.oc1..a to x@mailbox.example", SUPPRESSED),
    *at("auth", "535 Authentication credentials invalid", DEFERRED, PASSWORD),
    *at("mail", "535 Authentication required", DEFERRED, PASSWORD),
    *at(
        "mail", "535 Authorization failed: Envelope From address a@b.example not authorized", DEFERRED, SENDER
    ),
    *at("eom", "535 Authorization failed: address a@b.example not authorized", BOUNCED),
    *at("rcpt", "455 Maximum messages sent per minute reached : limit is 10", DEFERRED),
    *at("rcpt", "455 Maximum messages sent per day reached : limit is 200", DEFERRED, QUOTA),
    *at("connect", "421 Too many connections, try again later", DEFERRED),
    *at("mail", "421 Too many auth failures, try again later", DEFERRED),
    *at("eom", "554 Message parse error", BOUNCED),
    *at("connect mail rcpt data eom", "421 Timeout waiting for data from client", DEFERRED),
    *at(
        "mail rcpt data eom",
        "421 4.4.0 Problem attempting to execute commands. Please try again later",
        DEFERRED,
    ),
    *at("connect auth", "421 Too many auth failures, try again later", DEFERRED),
    *at("connect mail rcpt eom", "421 4.3.0 Mail system failure, closing transmission channel", DEFERRED),
    *at("connect auth mail rcpt data eom", "451 Server error", DEFERRED),
    *at("auth mail rcpt data eom", "451 Error in Processing", DEFERRED),
    *at("mail rcpt eom", "452 System storage error", DEFERRED),
    *at("mail data eom", "455 Maximum messages sent per minute reached : limit is 10", DEFERRED),
    *at("mail data eom", "455 Maximum messages sent per day reached : limit is 200", DEFERRED, QUOTA),
    *at("auth", "501 Invalid command argument, not a valid Base64 string", DEFERRED, PASSWORD),
    *at("auth", "501 Invalid command argument, does not contain NUL", DEFERRED, PASSWORD),
    *at("auth", "501 Invalid command argument, does not contain the second NUL", DEFERRED, PASSWORD),
    *at("auth", "504 Method not supported", DEFERRED, PASSWORD),
    *at("auth", "504 AUTH mechanism mismatch", DEFERRED, PASSWORD),
    *at("rcpt data eom", "535 Authentication required", DEFERRED, PASSWORD),
    *at("data", "503 Need RCPT command", BOUNCED),
    *at("mail rcpt eom", "552 Exceeds byte limit", BOUNCED),
    *at("mail rcpt", "553 x@y Invalid email address", BOUNCED),
]


def test_every_documented_reply_at_every_stage_means_for_all_involved_what_it_says(world: World) -> None:
    all_clear(world)
    stamp = str(time.monotonic_ns())
    to = {f"reply{number}.{stamp}@mailbox.example": said for number, said in enumerate(REPLIES)}
    waits = {address for address, said in to.items() if said.becomes == DEFERRED}
    told_before = len(subjects(world, "ALARM"))
    for address, said in to.items():
        if said.stage in ("connect", "auth"):  # on a connection that is new
            world.relay(down=True)
            world.relay(down=False)
        world.relay(reply={"stage": said.stage, "text": said.text, "count": 1})
        world.submit(world.alice, address, address)
        wait(lambda address=address: _tried(world, address), f"what became of {said}")  # type: ignore[misc]
        assert world.relay()["reply"] is None, f"{said} was not said"

    # The ledger has each in the relay's own words.
    found = wait(lambda: _complete(world, to), "the ledger")
    assert {address: found[address]["state"] for address in to} == {a: said.becomes for a, said in to.items()}
    for address, said in to.items():
        assert re.sub(r"^\d+ (\d\.\d\.\d )?", "", said.text) in found[address]["words"], said

    # The queue knows of each that waits for what.
    waiting = json.loads(world.todoku("queue", "--json").stdout.splitlines()[-1])["messages"]
    meanings = {each["recipients"][0][0]: each["meanings"][0] for each in waiting}
    assert waits <= meanings.keys()
    assert {said for address, said in to.items() if address in waits and not meanings[address]} == set()
    assert to.keys() & meanings.keys() == waits

    # The postmaster hears of each cause once, however many messages have it.
    causes = Counter(said.alarm for said in REPLIES if said.alarm).keys()
    wait(lambda: _causes(world, told_before).keys() >= causes, "the alarms")
    assert _causes(world, told_before) == dict.fromkeys(causes, 1)

    # The sender: one notice for each that failed for good, none for what waits. And that leaves by itself.
    wait(lambda: len(_notices(world, stamp)) >= len(to) - len(waits), "the notices")
    wait(lambda: not _waiting(world, waits) or world.flush(), "all to leave", 60)
    assert sorted(_notices(world, stamp)) == sorted(to.keys() - waits)


def _complete(world: World, to: dict[str, Said]) -> dict[str, Any] | None:
    """The recipients in the ledger, once all have been tried."""
    done = world.todoku("trace", world.alice.address, "--most", "200", "--json")
    journeys = json.loads(done.stdout.splitlines()[-1])["messages"]
    found = {each["address"]: each for journey in journeys for each in journey["recipients"]}
    return found if all(address in found and found[address]["attempts"] for address in to) else None


def _waiting(world: World, addresses: set[str]) -> set[str]:
    return addresses & {each["address"] for message in world.queue() for each in message["recipients"]}


def _causes(world: World, skip: int) -> dict[str, int]:
    """How often the postmaster was told of each."""
    text = "\n".join(_texts(world, skip)).lower()
    return {words: count for words in (PASSWORD, SENDER, QUOTA) if (count := text.count(words))}


def _tried(world: World, address: str) -> bool:
    return re.search(rf"to=<{re.escape(address)}>.*status=", world.log()) is not None


def _notices(world: World, stamp: str) -> list[str]:
    """Whom alice was told about, once for each notice."""
    with world.imap(world.alice) as imap:
        imap.select("INBOX", readonly=True)
        numbers = imap.search(None, "BODY", f'"{stamp}"')[1][0].split()
        raw = [imap.fetch(number.decode(), "(BODY.PEEK[])")[1][0] for number in numbers]
    messages = [
        email.message_from_bytes(each[1], policy=email.policy.default)
        for each in raw
        if isinstance(each, tuple)
    ]
    reports = [each for each in messages if each.get_content_type() == "multipart/report"]
    return [
        str(found[1])
        for each in reports
        if (found := re.search(r"Final-Recipient: rfc822; *(\S+)", each.as_string()))
        and "failed" in each.as_string()
    ]


def _texts(world: World, skip: int) -> list[str]:
    with world.imap(postmaster(world)) as imap:
        imap.select("INBOX", readonly=True)
        numbers = imap.search(None, "SUBJECT", '"ALARM"')[1][0].split()[skip:]
        raw = [imap.fetch(number.decode(), "(BODY.PEEK[])")[1][0] for number in numbers]
    messages = [
        email.message_from_bytes(each[1], policy=email.policy.default)
        for each in raw
        if isinstance(each, tuple)
    ]
    return [str(each.get_content()) for each in messages]
