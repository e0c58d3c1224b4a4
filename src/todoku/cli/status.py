"""`todoku status`: on one screen, whether mail goes in and out, and what somebody has to do about it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from todoku.cli.parts.context import DONE, FAILED, Context, print_json, require_root
from todoku.cli.parts.ledger import span
from todoku.cli.parts.people import Json, refuse, say

if TYPE_CHECKING:
    from todoku.delivery.alarms import Alarm
    from todoku.delivery.conditions import Seen, Usage
    from todoku.delivery.health import Health
    from todoku.settings import Settings
AGENT_NAME = "todoku-agent"
_BEHIND = 10.0  # seconds


def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show whether mail flows: services, queue, the relay's plan, disks, certificate. Exit code 1: an alarm."""
    context: Context = ctx.obj
    settings = context.settings()
    require_root("looking at the state of mail")
    from todoku.delivery import health
    from todoku.delivery.conditions import alarms

    counted, problems = _counted(settings)
    try:
        seen = _look(settings, counted)
    except OSError as error:
        refuse(f"the queue cannot be looked at: {error}", FAILED, as_json=as_json)
    agent = health.read()
    counts = counted.states
    found = [*alarms(seen), *problems, *_of_the_agent(agent, seen)]
    if as_json:
        shown = {
            "services": seen.services,
            "waiting": len(seen.queue),
            "plan": [asdict(each) for each in seen.usage],
            "disks": seen.disks,
            "certificate_ends": seen.certificate_ends,
            "last_read": seen.last_read,
            "last_day": counts,
            "agent": asdict(agent) if agent else None,
        }
        print_json({"ok": not found, "alarms": [asdict(each) for each in found], **shown})
    else:
        _show(seen, counts, found)
        if agent is not None and agent.lag > _BEHIND:
            say(f"The ledger is {span(agent.lag)} behind the log.")
    raise SystemExit(FAILED if found else DONE)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the ledger says: how many recipients of the last day are in each state, and when it last heard of any."""

    states: dict[str, int]
    last: float | None


def _counted(settings: Settings) -> tuple[_Counted, list[Alarm]]:
    """Without the ledger there is still much to see."""
    from todoku.delivery import stats
    from todoku.delivery.alarms import Alarm
    from todoku.store import StoreError, ledger

    counts: dict[str, int] = {}
    try:
        engine = ledger.open(ledger.place_of(settings))
        for each in stats.count(engine, "day", time.time() - stats.DAY):
            for state, number in each.states.items():
                counts[state] = counts.get(state, 0) + number
        return _Counted(counts, stats.latest(engine)), []
    except StoreError as error:
        advice = "mail flows without it; what happens meanwhile is read from the log once it is back"
        return _Counted({}, None), [Alarm("ledger:unreadable", str(error), advice)]


def _of_the_agent(agent: Health | None, seen: Seen) -> list[Alarm]:
    """What the agent itself says is wrong with the ledger."""
    from todoku.delivery.alarms import Alarm
    from todoku.delivery.health import STALE

    found = []
    if agent is None:
        return []  # that it does not run is an alarm of its own
    if agent.error:
        lasts = span(seen.now - (agent.since or agent.time))
        said = f"for {lasts} the agent could write nothing into the ledger: {agent.error}"
        found.append(
            Alarm("ledger:unwritable", said, "nothing is lost: it goes on by itself once that is over")
        )
    if seen.services.get(AGENT_NAME) and seen.now - agent.time > STALE:
        said = f"the agent has said nothing for {span(seen.now - agent.time)}"
        found.append(Alarm("agent:stuck", said, "look into its log, and start it again"))
    if agent.passed_over:
        said = f"the ledger did not take {agent.passed_over} lines of the log"
        found.append(Alarm("ledger:passed-over", said, "the agent's log has them; please report it"))
    return found


def _look(settings: Settings, counted: _Counted) -> Seen:
    from todoku.delivery import machine
    from todoku.delivery.alarms import reported
    from todoku.delivery.conditions import Seen
    from todoku.delivery.queue import waiting
    from todoku.delivery.states import State

    now = time.time()
    return Seen(
        now=now,
        queue=waiting(),
        services=_services(settings),
        usage=_usage(settings, now),
        disks=machine.disks(),
        certificate_ends=_certificate_ends(settings),
        last_read=counted.last,
        suppressed=counted.states.get(State.SUPPRESSED, 0),
        complained=counted.states.get(State.COMPLAINED, 0),
        reported=reported(),
    )


def _services(settings: Settings) -> dict[str, bool]:
    from todoku.host import clamav, processes
    from todoku.host.client import Host
    from todoku.host.services import AGENT, DOVECOT, GATE, PAGE, POSTFIX

    host = Host()
    page = (PAGE,) if settings.protect.links else ()
    scanner = (clamav.CLAMD,) if settings.gate.malware == "clamav" else ()  # without it nothing passes
    return {
        daemon.name: processes.main_process(host, daemon.pid_file, daemon.process) is not None
        for daemon in (POSTFIX, DOVECOT, GATE, AGENT, *scanner, *page)
    }


def _usage(settings: Settings, now: float) -> list[Usage]:
    """As the gate has counted it; nothing where it has counted nothing yet."""
    from todoku.delivery.conditions import Usage
    from todoku.gate.spent import FILE, used

    plan = settings.relay.plan
    limits = {"a minute": plan.per_minute, "in 24 hours": plan.per_day, "in 31 days": plan.per_month}
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{FILE}?mode=ro", uri=True)) as counted:
        spent = used(counted, int(now))
        return [Usage(window, spent[window], limit) for window, limit in limits.items()]
    return [Usage(window, 0, limit) for window, limit in limits.items()]


def _certificate_ends(settings: Settings) -> float | None:
    from cryptography import x509

    from todoku.host.certificates.certificate import paths

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
