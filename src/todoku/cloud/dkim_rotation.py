"""Rotating a DKIM key while mail flows: a second key, published, seen, signing, and then the old one goes.

Each step is derived from what the cloud says now; there is no state to lose. Killed at any point and run
again, it goes on where it stopped, and it never makes a third key:

    one key, ACTIVE                     make the second one
    two keys, the newer one not ACTIVE  publish its record, wait until it is seen, wait until Oracle signs with it
    two keys, the newer one ACTIVE      the old one is deleted a day later (by this command or by `todoku apply`)

While both exist both are published, so whatever was signed with either verifies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from todoku.cloud.client import Cloud
from todoku.cloud.dkim import DkimSeen, create_key, delete_key, look_at, waiting_for
from todoku.cloud.values import ACTIVE, Dkim
from todoku.plan.resource import ChangeFailed

# Oracle's page on DKIM: "we recommend that you rotate keys every six months".
ROTATE_AFTER = timedelta(days=182)


@dataclass(frozen=True, slots=True)
class Record:
    """What has to be published for a key: a CNAME, or, where Oracle gives none, a TXT record."""

    name: str
    cname: str
    txt: str = ""


class Stage(Enum):
    """How far a rotation has come, each with its sentence."""

    NOT_SEEN = "the record of the new key is not visible at the domain's name servers yet"
    NOT_ACTIVE = "Oracle does not sign with the new key yet"
    OLD_REMAINS = "the new key signs; the old one stays for a day, for mail that is still on its way"
    DONE = "the new key signs, and the old one is deleted"


@dataclass(frozen=True, slots=True)
class Rotation:
    """Where a rotation stands when the command ends."""

    domain: str
    stage: Stage
    current: str  # the selector that signs
    new: str = ""  # the selector that will
    old: str = ""
    old_record: str = ""  # the name of a record that is not needed any more, once the old key is deleted
    until: datetime | None = None  # the old key is deleted after this
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What a rotation needs from the DNS, and from whoever watches. `visible` asks the authoritative servers."""

    publish: Callable[[tuple[Record, ...]], None]
    visible: Callable[[Record], bool]
    say: Callable[[str], None]
    wait: float = 5400.0  # seconds: Oracle has needed 65 minutes


def rotate(domain: str, client: Cloud, steps: Steps) -> Rotation:
    """Rotate the key of `domain`, or go on with a rotation. Raises ChangeFailed, LookFailed."""
    seen = look_at(domain, client)
    current = seen.keys.current
    if seen.domain is None or current is None or current.state != ACTIVE:
        raise ChangeFailed(
            f"there is no DKIM key of {domain} that signs, so there is none to rotate: {waiting_for(domain, current)}. "
            "Run `todoku apply` first"
        )
    if seen.keys.old is not None:
        return _retire(domain, seen, client)
    if seen.keys.pending is None:
        steps.say(f"{domain}: {current.selector} signs; making a second key")
        for failed in seen.failed:
            delete_key(seen.domain, failed, client)
        create_key(seen.domain, client)
    new = _with_record(domain, client)
    if new is None:
        return Rotation(domain, Stage.NOT_ACTIVE, current.selector, detail="Oracle is still making the key")
    return _bring_in(domain, current, new, client, steps)


def _with_record(domain: str, client: Cloud) -> Dkim | None:
    """The pending key, once Oracle has said what to publish for it."""

    def pending() -> Dkim | None:
        key = look_at(domain, client).keys.pending
        return key if key is not None and key.record_name and (key.cname or key.txt) else None

    client.wait("dkim", lambda: pending() is not None or _taken_over(domain, client), 60.0)
    seen = look_at(domain, client).keys
    return pending() or (seen.current if seen.old is not None else None)


def _bring_in(domain: str, current: Dkim, new: Dkim, client: Cloud, steps: Steps) -> Rotation:
    """Publish the new key's record, and wait until Oracle signs with it."""
    began = client.patience.clock()
    record = Record(new.record_name, new.cname, new.txt)
    target = f"CNAME {record.cname}" if record.cname else "TXT"
    if not steps.visible(record):
        steps.say(f"{domain}: publishing {record.name} {target}")
        steps.publish((record,))
    if not client.patience.wait(lambda: steps.visible(record), steps.wait, 2.0):
        return Rotation(
            domain, Stage.NOT_SEEN, current.selector, new.selector, detail=f"{record.name} {target}"
        )
    steps.say(f"{domain}: {record.name} is visible; waiting until Oracle signs with {new.selector}")
    left = max(0.0, steps.wait - (client.patience.clock() - began))
    if not client.wait("dkim", lambda: _taken_over(domain, client), left, pause=_pause(left)):
        why = waiting_for(domain, look_at(domain, client).keys.pending)
        return Rotation(domain, Stage.NOT_ACTIVE, current.selector, new.selector, detail=why)
    return _retire(domain, look_at(domain, client), client)


def _taken_over(domain: str, client: Cloud) -> bool:
    return look_at(domain, client).keys.old is not None


def _retire(domain: str, seen: DkimSeen, client: Cloud) -> Rotation:
    """Delete the old key when its day is over; else say until when it stays."""
    keys = seen.keys
    assert seen.domain is not None and keys.current is not None and keys.old is not None  # noqa: S101
    due = keys.retire_at()
    if not keys.old.ours:
        detail = f"{keys.old.selector} was not made by Todoku: delete it in the console when its day is over"
        return Rotation(
            domain,
            Stage.OLD_REMAINS,
            keys.current.selector,
            old=keys.old.selector,
            until=due,
            detail=detail,
        )
    if due is None or client.now() < due:
        return Rotation(domain, Stage.OLD_REMAINS, keys.current.selector, old=keys.old.selector, until=due)
    delete_key(seen.domain, keys.old, client)
    return Rotation(
        domain,
        Stage.DONE,
        keys.current.selector,
        old=keys.old.selector,
        old_record=keys.old.record_name,
    )


def _pause(left: float) -> float:
    """Seconds between questions: often when somebody waits for minutes, seldom when it may be an hour."""
    return 2.0 if left <= 120 else 10.0


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """A key, for people."""

    domain: str
    selector: str
    state: str
    role: str  # "signs", "next", "old", "failed", "waits"
    age_days: int | None
    record: str
    target: str
    advice: str = ""


def status(domain: str, client: Cloud) -> tuple[KeyStatus, ...]:
    """The keys of `domain`, with what to do about them. Raises CloudError."""
    seen = look_at(domain, client)
    keys = seen.keys
    told = []
    if keys.current is not None:
        signs = keys.current.state == ACTIVE
        advice = _advice(domain, keys.current, keys.pending, client.now())
        told.append(_status(domain, keys.current, "signs" if signs else "waits", advice, client.now()))
    if keys.pending is not None:
        advice = f"a rotation has begun: `todoku dkim rotate {domain}` goes on with it"
        told.append(_status(domain, keys.pending, "next", advice, client.now()))
    if keys.old is not None:
        due = keys.retire_at()
        advice = f"will be deleted after {due:%Y-%m-%d %H:%M} UTC" if due else "will be deleted"
        told.append(_status(domain, keys.old, "old", advice, client.now()))
    told += [
        _status(domain, key, "failed", "`todoku apply` or the next rotation replaces it", client.now())
        for key in seen.failed
    ]
    return tuple(told)


def _advice(domain: str, current: Dkim, pending: Dkim | None, now: datetime) -> str:
    if current.state != ACTIVE:
        return waiting_for(domain, current)
    old_enough = current.created is not None and now - current.created > ROTATE_AFTER
    if old_enough and pending is None:
        return f"Oracle advises a new key every six months: `todoku dkim rotate {domain}`"
    return ""


def _status(domain: str, key: Dkim, role: str, advice: str, now: datetime) -> KeyStatus:
    age = (now - key.created).days if key.created is not None else None
    return KeyStatus(
        domain, key.selector, key.state, role, age, key.record_name, key.cname or key.txt, advice
    )
