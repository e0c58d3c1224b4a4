"""What is wrong with sending and receiving right now: a list of alarms, computed from what was looked at.

An alarm is about something that somebody has to do something about. Each has a name that stays, so that it can be told
once when it begins and once when it is over (`postmaster`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from todoku.delivery.alarms import Alarm
from todoku.delivery.queue import USED_UP, Waiting

HOUR, DAY = 3600.0, 86_400.0
_OLDEST = HOUR  # seconds that a message may wait before somebody should know
_DISK = 0.10  # share of a file system that should be free
_CERTIFICATE = 14 * DAY  # seconds that a certificate should still be valid
_RESTART = 20.0  # seconds for which a service may be away without an alarm
# An alarm that waits for one message to be tried again is over with it; a share of something comes and goes.
_SOON, _SLOWLY = 10.0, HOUR
# What the relay says, as Postfix passes it on (host.postfix.tables.relay_reply).
_PASSWORD = re.compile(
    r"SASL authentication failed(?!.* said: 4)|[Aa]uthentication (credentials invalid|required)"
)
_SENDER = re.compile(r"not authorized")
_QUOTA = re.compile(r"Maximum messages sent per (day|month) reached")


@dataclass(frozen=True, slots=True)
class Usage:
    """What of the relay's plan is used: `used` of `limit` emails in `window` ("a minute", "in 24 hours", ...)."""

    window: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at. Times are seconds since 1970; None where it could not be looked at."""

    now: float
    queue: Sequence[Waiting]
    services: dict[str, bool]  # name -> whether it runs
    usage: Sequence[Usage]
    disks: dict[str, float]  # path -> free share, 0 to 1
    certificate_ends: float | None
    last_read: float | None  # when the ledger last heard of a message
    suppressed: int = 0  # recipients that were suppressed in the last day
    complained: int = 0
    reported: Sequence[Alarm] = ()  # by others (`alarms.report`)


def alarms(seen: Seen) -> list[Alarm]:
    """What somebody has to do something about, the most urgent first."""
    return [
        *_services(seen),
        *_relay(seen),
        *_waiting(seen),
        *_plan(seen),
        *_machine(seen),
        *_recipients(seen),
        *seen.reported,
    ]


def _services(seen: Seen) -> list[Alarm]:
    return [
        Alarm(
            f"service:{name}",
            f"{name} does not run",
            "run `todoku apply`, which starts it or says why not",
            calm=_SOON,
            settle=_RESTART,
        )
        for name, runs in seen.services.items()
        if not runs
    ]


# What the relay refuses, or would: by what, under which name, and what to do.
_REFUSED = (
    (
        _PASSWORD,
        "relay:password",
        "the relay refuses the password",
        "run `todoku credential status`, then `todoku credential rotate`; the mail waits meanwhile",
    ),
    (
        _SENDER,
        "relay:sender",
        "the relay does not accept a sender",
        "look at `todoku plan`; a sender that is new is accepted within a quarter of an hour",
    ),
    (
        re.compile(USED_UP),
        "plan:waits",
        "the relay's plan is used up",
        "the mail leaves once there is room again (`todoku queue`); a larger plan is ordered at Oracle",
    ),
    (
        _QUOTA,
        "relay:quota",
        "the relay says that its plan is used up",
        "the mail waits until there is room again; a larger plan is ordered at Oracle. If the relay knows of more mail "
        "than `todoku status`, something else sends with the same plan, or [relay.plan] is not what was ordered",
    ),
)


def _relay(seen: Seen) -> list[Alarm]:
    reasons = [reason for message in seen.queue for _, reason in message.recipients]
    found = []
    for words, name, what, advice in _REFUSED:
        if fits := [reason for reason in reasons if words.search(reason)]:
            waiting = "a recipient waits" if len(fits) == 1 else f"{len(fits):,} recipients wait"
            found.append(Alarm(name, f"{what}, and {waiting}: {fits[0]}", advice, calm=_SOON))
    return found


def _waiting(seen: Seen) -> list[Alarm]:
    oldest = min((message.arrived for message in seen.queue if message.queue != "hold"), default=seen.now)
    waits = seen.now - oldest
    if waits <= _OLDEST:
        return []
    said = (
        f"the oldest message has been waiting for {waits / HOUR:.1f} hours ({len(seen.queue)} in the queue)"
    )
    return [Alarm("queue:old", said, "`todoku queue` says why", calm=_SOON)]


def _plan(seen: Seen) -> list[Alarm]:
    found = []
    for usage in seen.usage:
        share = usage.used / usage.limit if usage.limit else 0.0
        if share >= 1:
            step, advice = (
                100,
                "mail is held back until there is room again; a larger plan is ordered at Oracle",
            )
        elif share >= 0.8:
            step, advice = 80, "what is more than the plan will be held back"
        else:
            continue
        said = (
            f"{usage.used:,} of the {usage.limit:,} emails that the relay's plan has {usage.window} are used"
        )
        found.append(Alarm(f"plan:{usage.window}:{step}", said, advice, calm=_SLOWLY))
    return found


def _machine(seen: Seen) -> list[Alarm]:
    found = [
        Alarm(
            f"disk:{path}",
            f"{path} has {free:.0%} free",
            "make room: without any, mail is refused",
            calm=_SLOWLY,
        )
        for path, free in seen.disks.items()
        if free < _DISK
    ]
    if seen.certificate_ends is not None and seen.certificate_ends - seen.now < _CERTIFICATE:
        left = (seen.certificate_ends - seen.now) / DAY
        said = f"the certificate ends in {left:.0f} days" if left > 0 else "the certificate has ended"
        found.append(Alarm("certificate", said, "renew it, then run `todoku apply`"))
    return found


def _recipients(seen: Seen) -> list[Alarm]:
    if not seen.complained:
        return []
    said = f"{seen.complained} recipients reported mail from here as unwanted in the last day"
    return [Alarm("complaints", said, "find out who sent it (`todoku trace`), and stop it", calm=_SLOWLY)]
