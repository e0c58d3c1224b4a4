"""`todoku status`: on one screen, whether mail goes in and out, and what somebody has to do about it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from todoku.cli import ledger_parts
from todoku.cli.context import DONE, FAILED, Context, print_json
from todoku.cli.ledger_parts import span
from todoku.cli.people import Json, refuse, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from todoku.delivery.alarms import Alarm
    from todoku.delivery.conditions import Seen, Usage
    from todoku.settings import Settings


def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show whether mail flows: services, queue, the relay's plan, disks, certificate. Exit code 1: an alarm."""
    context: Context = ctx.obj
    settings = context.settings()
    with ledger_parts.opened(ctx, "looking at the state of mail", as_json=as_json) as engine:
        from todoku.delivery.conditions import alarms

        try:
            seen, counts = _look(settings, engine)
        except OSError as error:
            refuse(f"the queue cannot be looked at: {error}", FAILED, as_json=as_json)
    found = alarms(seen)
    if as_json:
        shown = {
            "services": seen.services,
            "waiting": len(seen.queue),
            "plan": [asdict(each) for each in seen.usage],
            "disks": seen.disks,
            "certificate_ends": seen.certificate_ends,
            "last_read": seen.last_read,
            "last_day": counts,
        }
        print_json({"ok": not found, "alarms": [asdict(each) for each in found], **shown})
    else:
        _show(seen, counts, found)
    raise SystemExit(FAILED if found else DONE)


def _look(settings: Settings, engine: Engine) -> tuple[Seen, dict[str, int]]:
    from todoku.delivery import machine, stats
    from todoku.delivery.alarms import reported
    from todoku.delivery.conditions import Seen
    from todoku.delivery.queue import waiting
    from todoku.delivery.states import State

    now = time.time()
    counts: dict[str, int] = {}
    for each in stats.count(engine, "day", now - stats.DAY):
        for state, number in each.states.items():
            counts[state] = counts.get(state, 0) + number
    seen = Seen(
        now=now,
        queue=waiting(),
        services=_services(),
        usage=_usage(settings, now),
        disks=machine.disks(),
        certificate_ends=_certificate_ends(settings),
        last_read=stats.latest(engine),
        suppressed=counts.get(State.SUPPRESSED, 0),
        complained=counts.get(State.COMPLAINED, 0),
        reported=reported(),
    )
    return seen, counts


def _services() -> dict[str, bool]:
    from todoku.host import processes
    from todoku.host.client import Host
    from todoku.host.services import AGENT, DOVECOT, GATE, POSTFIX

    host = Host()
    return {
        daemon.name: processes.main_process(host, daemon.pid_file, daemon.process) is not None
        for daemon in (POSTFIX, DOVECOT, GATE, AGENT)
    }


def _usage(settings: Settings, now: float) -> list[Usage]:
    """As the gate has counted it; nothing where it has counted nothing yet."""
    from todoku.delivery.conditions import Usage
    from todoku.gate.limits import FILE, used

    plan = settings.relay.plan
    limits = {"a minute": plan.per_minute, "in 24 hours": plan.per_day, "in 31 days": plan.per_month}
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{FILE}?mode=ro", uri=True)) as counted:
        spent = used(counted, int(now))
        return [Usage(window, spent[window], limit) for window, limit in limits.items()]
    return [Usage(window, 0, limit) for window, limit in limits.items()]


def _certificate_ends(settings: Settings) -> float | None:
    from cryptography import x509

    from todoku.host.certificate import paths

    with suppress(OSError, ValueError):
        octets = Path(paths(settings)[0]).read_bytes()
        return x509.load_pem_x509_certificates(octets)[0].not_valid_after_utc.timestamp()
    return None


def _show(seen: Seen, counts: dict[str, int], found: list[Alarm]) -> None:
    down = [name for name, runs in seen.services.items() if not runs]
    running = ", ".join(name for name, runs in seen.services.items() if runs)
    say(f"services      {running} run" + (f"; {', '.join(down)} not" if down else ""))
    words = ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items())) or "no mail"
    say(f"last 24 hours {words}")
    oldest = min((each.arrived for each in seen.queue), default=seen.now)
    say(
        f"queue         {len(seen.queue)} wait"
        + (f", the oldest for {span(seen.now - oldest)}" if seen.queue else "")
    )
    say("relay's plan  " + ", ".join(f"{each.used:,} of {each.limit:,} {each.window}" for each in seen.usage))
    say("disks         " + ", ".join(f"{path} {free:.0%} free" for path, free in seen.disks.items()))
    if seen.certificate_ends is not None:
        say(f"certificate   good for {span(seen.certificate_ends - seen.now)}")
    if seen.last_read is not None:
        say(f"ledger        last message {span(seen.now - seen.last_read)} ago")
    for alarm in found:
        say(f"\nALARM {alarm.found}\n      {alarm.advice}")
    if not found:
        say("\nNothing to do.")
