"""`python -m todoku.campaign`: sends what is due, in the foreground, for systemd and supervisord alike.

One on each machine; with campaign.database in PostgreSQL they share it (docs/bulk.md, "Several machines").

Two processes. The first is root's: it reads the relay's password, opens the gate's counters, and then does nothing but
pass on what the postmaster should be told. The other one gives its rights up before it reads what strangers have
entered into forms, and sends. When the first one ends, the other one sees its end of the socket close, and ends when
what is on its way has its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from todoku.campaign import campaigns, loops, trial, unconfirmed
from todoku.campaign.errors import CampaignError
from todoku.campaign.feedback import Feedback
from todoku.campaign.leases import on_database_time
from todoku.campaign.opened import Opened, open_campaigns
from todoku.campaign.plan_room import PlanRoom
from todoku.campaign.relay import Server
from todoku.campaign.relayed import RelayLog
from todoku.campaign.sender import Sender
from todoku.delivery import alarms, privileges, suppressions
from todoku.delivery.alarms import Alarm
from todoku.gate import spent
from todoku.settings import DEFAULT_PATH, CredentialError, Settings, SettingsError, credential, load
from todoku.store import StoreError, ledger
from todoku.store import campaign as store
from todoku.store import campaign_schema as schema

log = logging.getLogger("todoku.campaign")

NAME = "todoku-campaign"  # what ps(1) shows, and how `todoku apply` recognises it
_GROUPS = ("todoku-agent",)  # whom the relay's suppression list is for
_LOOK = 2.0  # seconds between two looks at that list, and at what has stopped
_TIDY = 3600.0  # seconds between two looks for requests that nobody has confirmed
_LARGEST = 1_000_000  # octets of what one process tells the other


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 1 cannot work, 2 wrong usage or settings."""
    options = _parser().parse_args(arguments)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    form = stamp + f"{NAME}[%(process)d] %(levelname)s: %(message)s"
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=form)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _name_process()
    try:
        settings = load(options.config)
        if settings.campaign is None:
            print(f"{NAME}: the settings have no [campaign] table", file=sys.stderr)
            return 1
        password = credential.read(settings.relay, os.environ)
        tls = ssl.create_default_context()
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        server = Server(settings.relay.hostname, settings.relay.port, tls, password, settings.hostname)
        return _two_processes(options, settings, open_campaigns(settings, kept=True), server)
    except (SettingsError, CredentialError, StoreError, CampaignError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument("--user", default=store.OWNER, help="whom to run as (%(default)s)")
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the process")
    return parser


def _two_processes(options: argparse.Namespace, settings: Settings, opened: Opened, server: Server) -> int:
    privileges.import_everything(("jinja2", "todoku.campaign", "todoku.gate", "uvloop", *_queue(opened)))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        os._exit(_child(theirs, options, settings, opened, server))
    theirs.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _caught, _frame: ours.shutdown(socket.SHUT_WR))
    if options.pid_file is not None:
        _note(options.pid_file)
    _pass_on(ours)
    _, status = os.waitpid(child, 0)
    return max(0, os.waitstatus_to_exitcode(status))


def _queue(opened: Opened) -> tuple[str, ...]:
    return ("asyncpg", "pgqueuer") if opened.is_shared else ()


def _pass_on(ours: socket.socket) -> None:
    """Alarms of the other process, until it ends. It is trusted with nothing but their words."""
    while said := ours.recv(_LARGEST):
        try:
            words = ([str(word)[:500] for word in each] for each in json.loads(said))
            alarms.report("campaign", [Alarm(name, found, advice) for name, found, advice in words])
        except (ValueError, TypeError, RecursionError, OSError) as error:
            log.error("what the postmaster should know cannot be passed on: %s", error)


def _child(
    theirs: socket.socket,
    options: argparse.Namespace,
    settings: Settings,
    opened: Opened,
    server: Server,
) -> int:
    code = 1
    try:
        counters = PlanRoom(settings)
        # As whom they belong to: the gate would not get into a file of root's.
        with ledger.as_owner_of(spent.FILE.parent):
            counters.open()
        privileges.drop(options.user, _GROUPS)
        with asyncio.Runner(loop_factory=loops.factory()) as runner:
            code = runner.run(_work(opened, server, counters, theirs))
    except (StoreError, CampaignError, privileges.CannotBecome) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
    except BaseException:
        log.exception("the sender ends")
    finally:
        logging.shutdown()
        sys.stderr.flush()
    return code


async def _work(opened: Opened, server: Server, counters: PlanRoom, theirs: socket.socket) -> int:
    opened = await asyncio.to_thread(on_database_time, opened)
    sender = Sender(opened, server, counters)
    theirs.setblocking(False)

    async def until_told() -> None:
        with suppress(OSError):
            await asyncio.get_running_loop().sock_recv(theirs, 1)
        sender.stop()

    told = asyncio.create_task(until_told())
    watching = asyncio.create_task(_watch(opened, theirs))
    sending = asyncio.create_task(sender.run())
    done, _ = await asyncio.wait((sending, watching), return_when=asyncio.FIRST_COMPLETED)
    for task in (watching, told):
        task.cancel()
    for task in done:
        task.result()  # raises what it ended with
    return 0


async def _watch(opened: Opened, theirs: socket.socket) -> None:
    feedback = Feedback(suppressions.FILE, log=None if opened.state is None else RelayLog(opened.state))
    before: list[tuple[str, str, str]] | None = None
    loop = asyncio.get_running_loop()
    tidied = -_TIDY
    while True:
        await asyncio.to_thread(feedback.hear, opened)
        if loop.time() - tidied >= _TIDY:
            await asyncio.to_thread(unconfirmed.forget, opened)
            tidied = loop.time()
        stopped = await asyncio.to_thread(_stopped, opened)
        if stopped != before:
            await loop.sock_sendall(theirs, json.dumps(stopped).encode())
            before = stopped
        await asyncio.sleep(_LOOK)


def _stopped(opened: Opened) -> list[tuple[str, str, str]]:
    """Campaigns that have stopped themselves, and tests that somebody has to decide, as alarms."""
    table = schema.campaign
    with opened.read() as connection:
        rows = connection.execute(
            select(table.c.name, table.c.words).where(table.c.state == campaigns.STOPPED).order_by(table.c.id)
        ).all()
        undecided = trial.undecided(connection)
    return [
        (
            f"stopped:{row.name}",
            f"the campaign {row.name} has stopped itself: {row.words}",
            f"find out why, then `todoku campaign start {row.name}` goes on, or `cancel` ends it",
        )
        for row in rows[:100]
    ] + [
        (
            f"undecided:{name}",
            f"the test of the campaign {name} cannot be decided: {words}",
            f"choose: `todoku campaign choose {name} a`, or b",
        )
        for name, words in undecided[:100]
    ]


def _note(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{os.getpid()}\n")
    fresh.rename(path)


def _name_process() -> None:
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)


if __name__ == "__main__":
    sys.exit(main())
