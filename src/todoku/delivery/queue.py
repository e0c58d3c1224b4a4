"""What waits in Postfix' queue, why, and when it is tried next: postqueue(1) and the queue's own files.

A deferred message's file has the time of its next attempt as its own time (qmgr(8)).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

SPOOL = Path("/var/spool/postfix")
USED_UP = r"relay's plan of the (day|month) is used up"  # as /etc/postfix/way_out.regexp has it
# What a reason means, and what to do; the first that fits.
_MEANINGS = (
    (r"per minute reached", "the relay takes no more this minute; it is tried again by itself"),
    (USED_UP, "the relay's plan is used up; it leaves once there is room"),
    (r"per (day|month) reached", "the relay's plan is used up; it is tried again until there is room in it"),
    (r"Authorization failed", "the relay does not (yet) accept this sender: see `todoku plan`"),
    (r"dovecot|lmtp", "the mailbox server does not take it now"),
    (r"421 .*auth failures", "the relay turns us away for a while, after refused passwords or senders"),
    (r"said: 535|SASL authentication failed(?!.* said: 4)|[Aa]uthentication required",
     "the relay refuses our password: run `todoku credential rotate`"),
    (r"421|Too many connections", "the relay is busy; it is tried again by itself"),
    (r"(said|to me): 45", "the relay has trouble of its own; it is tried again by itself"),
    (r"certificate|not trusted|Cannot start TLS|TLS is required", "the relay did not prove its name"),
    (r"connect to |Connection (refused|timed out)", "the relay cannot be reached"),
    (r"Host or domain name not found|Name service error", "the relay's name is not found: the DNS does not answer"),
    (r"lost connection|conversation .* timed out", "the relay hung up in the middle"),
    (r"milter|451 4\.7\.1 Service unavailable", "the gate does not answer: `todoku status`"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the queue. `recipients`: address and what was said last; times in seconds since 1970."""

    queue_id: str
    queue: str  # "active", "deferred", "incoming", "hold", "maildrop"
    arrived: float
    size: int
    sender: str
    recipients: tuple[tuple[str, str], ...]
    next: float | None  # None: now, or never (on hold)
    turn: int = 0  # how many have to leave before it, as the pace has it; 0: it does not wait for its turn


def meaning(reason: str) -> str:
    """What the words of a server mean for whoever waits; empty when that is not known."""
    return next((said for pattern, said in _MEANINGS if re.search(pattern, reason)), "")


def waiting(spool: Path = SPOOL) -> list[Waiting]:
    """Everything in the queue, the oldest first. Raises OSError."""
    listed = subprocess.run(["postqueue", "-j"], capture_output=True, text=True, check=False, timeout=60)
    if listed.returncode:
        raise OSError(f"postqueue -j: {listed.stderr.strip()}")
    return parse(listed.stdout.splitlines(), lambda queue_id: _next(spool, queue_id))


def parse(lines: Iterable[str], when_next: Callable[[str], float | None]) -> list[Waiting]:
    """The lines of `postqueue -j`; `when_next` is asked for the time of a deferred message's next attempt."""
    found = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            recipients = tuple(
                (str(each["address"]), str(each.get("delay_reason", ""))) for each in entry["recipients"]
            )
            queue, queue_id = str(entry["queue_name"]), str(entry["queue_id"])
            found.append(
                Waiting(
                    queue_id,
                    queue,
                    float(entry["arrival_time"]),
                    int(entry["message_size"]),
                    str(entry["sender"]),
                    recipients,
                    when_next(queue_id) if queue == "deferred" else None,
                )
            )
    return sorted(found, key=lambda each: each.arrived)


def with_room(found: Iterable[Waiting], until: float | None) -> list[Waiting]:
    """The same, where those that wait for room in the relay's plan know when there is (`way_out`), if that is known:
    then they are tried, whatever Postfix has in mind."""
    return [
        replace(each, next=until)
        if until is not None and any(re.search(USED_UP, reason) for _, reason in each.recipients)
        else each
        for each in found
    ]


def in_turn(
    found: Iterable[Waiting], delay: float, recipients: int, leaves: Callable[[str], bool], now: float
) -> list[Waiting]:
    """The same, where those that only wait for their turn know when it comes.

    Deliveries to `recipients` each begin `delay` seconds apart (`host.postfix.pace`; 0: at once). `leaves` says whether
    mail to an address goes through the relay. An estimate: Postfix takes them nearly in the order of their arrival.
    """
    listed, before = [], 0
    for each in found:
        mine = sum(leaves(address) for address, _ in each.recipients)
        if not delay or each.queue not in ("active", "incoming") or not mine:
            listed.append(each)
            continue
        if before:
            each = replace(each, next=now + before * delay, turn=before)
        listed.append(each)
        before += -(-mine // recipients)
    return listed


def _next(spool: Path, queue_id: str) -> float | None:
    if not re.fullmatch(r"[0-9A-Za-z]+", queue_id):
        return None
    for path in (*spool.glob(f"deferred/*/{queue_id}"), spool / "deferred" / queue_id):
        with suppress(OSError):
            return path.stat().st_mtime
    return None
