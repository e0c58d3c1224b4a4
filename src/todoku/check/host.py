"""The host itself: its resolver, its clock, room on the disk, mail that waits in the queue.

The clock is held against the time that Oracle's servers tell (RFC 9110 6.6.1), who refuse requests that are five
minutes off; a receiver refuses mail from the future as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from todoku.check.explain import explain
from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Means, Unanswered
from todoku.check.runner import Step
from todoku.host import processes
from todoku.host.client import Host, HostError
from todoku.host.services import AGENT, DOVECOT, GATE, PAGE, POSTFIX
from todoku.protect import object_store
from todoku.settings import CredentialError, ObjectStore, Settings, read_store
from todoku.settings.regions import REGIONS

_FOLDERS = ("/var/spool/postfix", "/var/lib/todoku")
_LITTLE, _TOO_LITTLE = (
    1_000_000_000,
    100_000_000,
)  # bytes; Postfix refuses mail below 1.5 times message_size_limit
_LARGEST_SKEW, _SKEW = timedelta(minutes=5), timedelta(minutes=1)
_LONG = timedelta(hours=1)
_MANY = 100  # messages
_SECONDS = 4.0
_SERVICES = {
    POSTFIX: "no mail comes in, and none leaves",
    DOVECOT: "nobody can read or send mail, and what comes in waits at the senders",
    GATE: "mail is put off in both directions",
    AGENT: "nobody is told what became of mail",
}


def steps(settings: Settings, means: Means) -> list[Step]:
    host = means.host
    found = [
        Step("host.resolver", "", lambda: resolver(settings, means)),
        Step("host.clock", "", lambda: clock(settings, means)),
    ]
    if host is not None:
        found += [
            *(Step("host.disk", folder, lambda f=folder: disk(host, f)) for folder in _FOLDERS),  # type: ignore[misc]
            Step("host.queue", "", lambda: queue(host, means.now())),
        ]
        if os.geteuid() == 0:  # nobody else may read who runs
            found.append(Step("host.services", "", lambda: services(settings, host)))
        if settings.protect.links and settings.protect.store is not None:
            found.append(Step("host.object_store", "", lambda: store(settings, settings.protect.store)))
    return found


def services(settings: Settings, host: Host) -> Iterator[Finding]:
    """Whether everything runs without which mail stands still."""
    wanted = {
        **_SERVICES,
        **({PAGE: "recipients cannot fetch attachments"} if settings.protect.links else {}),
    }
    down = {
        daemon: harm
        for daemon, harm in wanted.items()
        if processes.main_process(host, daemon.pid_file, daemon.process) is None
    }
    for daemon, harm in down.items():
        advice = "Run `todoku apply`, which starts it, or tells what it said last"
        yield failed("host.services", f"{daemon.name} does not run: {harm}", advice, daemon.name)
    if not down:
        yield passed("host.services", f"{', '.join(daemon.name for daemon in wanted)} run")


def store(settings: Settings, wanted: ObjectStore | None) -> Iterator[Finding]:
    """Whether attachments can be put into the object store and fetched again: a few bytes are, and are removed."""
    if wanted is None:
        return
    try:
        found = object_store.of(settings, read_store(wanted.credential_file) if os.geteuid() == 0 else None)
        if found is not None:
            found.try_out()
    except (CredentialError, object_store.StoreFailed) as problem:
        advice = "Until that is put right, messages with attachments that become links are held back (451)"
        yield failed("host.object_store", str(problem), advice)
        return
    seen = f"a file was put into {wanted.bucket} at {wanted.endpoint}, fetched, and removed"
    yield passed("host.object_store", seen)


def resolver(settings: Settings, means: Means) -> Iterator[Finding]:
    """Whether the resolver knows the one name without which nothing leaves: the relay's."""
    name = settings.relay.hostname
    shown = ", ".join(means.dns.lookups.resolvers)
    try:
        addresses = means.dns.addresses(name)
    except Unanswered as problem:
        advice = "Correct /etc/resolv.conf, or `resolver` below [dns], or see why that server does not answer"
        yield failed("host.resolver", f"the resolver ({shown}) does not answer: {problem}", advice)
        return
    if addresses:
        yield passed("host.resolver", f"{shown} knows the relay, {name}")
    else:
        advice = (
            "Correct relay.region or relay.host in the settings, or ask a resolver that knows the Internet"
        )
        yield failed("host.resolver", f"the resolver ({shown}) does not know the relay, {name}", advice)


def clock(settings: Settings, means: Means) -> Iterator[Finding]:
    """How far the clock is from that of Oracle's servers."""
    region = REGIONS[settings.relay.region]
    name = f"identity.{region.id}.oci.{region.realm_domain}"
    try:
        theirs = _time_at(name, means)
    except (OSError, ValueError) as problem:
        advice = "Look at the clock yourself: timedatectl"
        yield unknown(
            "host.clock", f"{name}, whose time it is compared with, does not tell it: {problem}", advice
        )
        return
    skew = abs(means.now() - theirs)
    seen = f"the clock is {skew.total_seconds():.0f} s away from Oracle's"
    advice = "Have the clock set by NTP: apt-get install chrony, or timedatectl set-ntp true"
    if skew > _LARGEST_SKEW:
        yield failed("host.clock", seen, advice)
    elif skew > _SKEW:
        yield warned("host.clock", seen, advice)
    else:
        yield passed("host.clock", seen)


def _time_at(name: str, means: Means) -> datetime:
    """The Date of an HTTPS answer, whatever else it says. Raises OSError, ValueError."""
    with (
        means.connect(name, 443, _SECONDS) as raw,
        means.trust().wrap_socket(raw, server_hostname=name) as secured,
    ):
        secured.sendall(f"HEAD / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65_536:
            more = secured.recv(4096)
            if not more:
                break
            head += more
    for line in head.decode("latin-1").split("\r\n")[1:]:
        field, _, value = line.partition(":")
        if field.lower() == "date":
            date = parsedate_to_datetime(value.strip())
            return date if date.tzinfo else date.replace(tzinfo=UTC)
    raise ValueError("it says no Date")


def disk(host: Host, folder: str) -> Iterator[Finding]:
    """Room where mail and the queue lie, in bytes and in files."""
    try:
        found = os.statvfs(host.real(folder))
    except FileNotFoundError:
        yield unknown("host.disk", f"there is no {folder}", "Run `todoku apply`", folder)
        return
    free = found.f_bavail * found.f_frsize
    files = found.f_favail if found.f_files else None  # btrfs and others have no number of files
    yield room(folder, free, files)


def room(folder: str, free: int, files: int | None) -> Finding:
    """What so many free bytes, and so many more files that fit, mean."""
    seen = f"{free / 1e9:.1f} GB are free" + (f", and {files:,} more files fit" if files is not None else "")
    advice = "Make room: df and du show where it went; old mail, logs, backups"
    if free < _TOO_LITTLE or (files is not None and files < 1_000):
        return failed("host.disk", f"{seen}: mail is refused", advice, folder)
    if free < _LITTLE or (files is not None and files < 20_000):
        return warned("host.disk", seen, advice, folder)
    return passed("host.disk", seen, folder)


def queue(host: Host, now: datetime) -> Iterator[Finding]:
    """What waits in Postfix's queue, since when and why."""
    try:
        listed = host.run(["postqueue", "-j"], timeout=_SECONDS).stdout
    except HostError as problem:
        yield unknown("host.queue", str(problem), "See whether Postfix runs: postfix status")
        return
    yield waiting([json.loads(line) for line in listed.splitlines() if line.strip()], now)


def waiting(entries: list[dict[str, object]], now: datetime) -> Finding:
    """What these entries of `postqueue -j` mean."""
    if not entries:
        return passed("host.queue", "nothing waits")
    times = [float(str(entry.get("arrival_time", now.timestamp()))) for entry in entries]
    age = now - datetime.fromtimestamp(min(times), UTC)
    seen = f"{len(entries)} messages wait, the oldest for {_shown(age)}"
    if age < _LONG and len(entries) < _MANY:
        return passed("host.queue", seen)
    reason = _most_frequent_reason(entries)
    told = f"; most often because: {reason}" if reason else ""
    todo = (
        next((f"{each.move.sentence}. {each.todo}" for each in explain(reason) if each.id), "")
        if reason
        else ""
    )
    return warned("host.queue", seen + told, todo or "Look with postqueue -p why they wait")


def _most_frequent_reason(entries: list[dict[str, object]]) -> str:
    reasons: dict[str, int] = {}
    for entry in entries:
        recipients = entry.get("recipients")
        for recipient in recipients if isinstance(recipients, list) else []:
            reason = str(recipient.get("delay_reason", ""))
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
    return max(reasons, key=lambda reason: reasons[reason], default="")


def _shown(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
