"""`python -m todoku.delivery`: the agent in the foreground, for systemd and supervisord alike."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from todoku.delivery import (
    alarms,
    answers,
    decisions,
    guessing_server,
    health,
    notices,
    opener,
    privileges,
    suppressions,
    watch,
    way_out,
)
from todoku.delivery.agent import Agent, Task
from todoku.delivery.decisions import Decisions
from todoku.delivery.follow import Folder, Follower, LogFiles, Position
from todoku.delivery.guessing import Guesses
from todoku.delivery.maillog import MailLog
from todoku.delivery.metrics import Figures, Server
from todoku.delivery.postmaster import Postmaster
from todoku.delivery.record import Recorder
from todoku.delivery.relay_log import RelayLogSource
from todoku.delivery.relayed import Waiting
from todoku.delivery.retention import DAY, forget
from todoku.delivery.sources import DecisionSource, JournalSource, LogSource, Source
from todoku.delivery.suppressions import SuppressionList
from todoku.settings import DEFAULT_PATH, Settings, SettingsError, load
from todoku.store import StoreError, ledger

log = logging.getLogger("todoku.agent")

USER = "todoku-agent"
# Where there is a journal, its readers are the one; who is in the other may ask Postfix what is in the queue. Everybody
# may do that by postqueue(1) itself, but not without a way to more rights.
_GROUPS = ("systemd-journal", "postdrop")
_HOUR = 3600.0
_OFTEN = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 1 cannot work, 2 wrong usage or settings."""
    options = _parser().parse_args(arguments)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=stamp + "todoku-agent[%(process)d] %(levelname)s: %(message)s",
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    privileges.name_process()
    try:
        settings = load(options.config)
        engine = ledger.open(ledger.place_of(settings))
        if os.geteuid() == 0:
            return _two_processes(options, settings, engine)
        _note(options.pid_file, os.getpid())
        return work(engine, settings, options, Folder(options.log) if options.log else None)
    except (SettingsError, StoreError, privileges.CannotBecome) as error:
        print(f"todoku-agent: {error}", file=sys.stderr)
        _open_the_way_out(options)
        return 2 if isinstance(error, SettingsError) else 1


def _open_the_way_out(options: argparse.Namespace) -> None:
    """As nobody else does, and this agent is started again and again: mail waits no longer than it was told to."""
    folder: Path = options.way_out
    try:
        if not folder.is_dir():
            return
        reload = opener.reload_postfix if os.geteuid() == 0 else lambda: None
        with ledger.as_owner_of(folder):
            way_out.open_when_due(reload, folder, time.time())
    except (OSError, StoreError) as error:
        print(f"todoku-agent: whether mail may leave cannot be said: {error}", file=sys.stderr)


def _two_processes(options: argparse.Namespace, settings: Settings, engine: Engine) -> int:
    """The child gives its rights up and works; this process opens the log for it, and ends with it."""
    privileges.import_everything()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        os._exit(_child(ours, theirs, options, settings, engine))
    theirs.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _frame: os.kill(child, caught))
    if options.log:
        opener.serve(ours, Folder(options.log))
    _, status = os.waitpid(child, 0)
    code = max(0, os.waitstatus_to_exitcode(status))
    if code:
        _open_the_way_out(options)
    return code


def _child(
    ours: socket.socket,
    theirs: socket.socket,
    options: argparse.Namespace,
    settings: Settings,
    engine: Engine,
) -> int:
    code = 1
    try:
        ours.close()
        privileges.drop(options.user, _GROUPS)
        _die_with_the_parent()
        _note(options.pid_file, os.getppid())
        files = opener.Borrowed(theirs, options.log.name) if options.log else None
        code = work(engine, settings, options, files)
    except (StoreError, privileges.CannotBecome) as error:
        print(f"todoku-agent: {error}", file=sys.stderr)
    except BaseException:
        log.exception("the agent ends")
    finally:
        logging.shutdown()
        sys.stderr.flush()
    return code


def _die_with_the_parent() -> None:
    """Nobody would restart a child alone. prctl(2): another user forgets it, so it is said after `drop`."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def work(engine: Engine, settings: Settings, options: argparse.Namespace, files: LogFiles | None) -> int:
    """Until TERM; the exit code. Raises `StoreError`. `files` None: systemd's journal."""
    recorder = Recorder(engine, notices.Writer(settings))
    sender = notices.Sender(engine)
    suppressed = SuppressionList(options.suppressions, options.exchange)

    look_around = watch.Watch(engine, settings, Postmaster(engine, settings), options.alarms)

    def look_at_suppressions() -> None:
        if told := suppressed.news():
            recorder.record(told)

    guesses = Guesses(guessing_server.KNOWN)
    guessing_server.start(guesses)
    tasks = [
        *_tasks(engine, settings),
        Task("keeping who is known", _OFTEN * 15, guesses.save),
        Task("reading the suppression list", _OFTEN, look_at_suppressions),
        Task("looking whether all is well", watch.EVERY, look_around),
        Task("sending notices", _OFTEN, sender.send),
    ]
    waiting = Waiting(engine)

    def match() -> None:
        if records := waiting.next():
            recorder.record(records)

    tasks.append(Task("matching the relay's log", _OFTEN, match))
    reload, surely = _reload(files)
    door = way_out.WayOut(
        recorder.left,
        settings.relay.plan,
        reload,
        options.way_out,
        told=options.health.parent,
        surely=surely,
    )
    if options.way_out.is_dir():
        tasks.append(Task("keeping to the relay's plan", 0.0, door))
    agent = Agent(recorder, _sources(recorder, files, options), tasks)
    asked = answers.Answers(engine, options.exchange, agent.all_read)
    agent.add(Task("telling the gate what Postfix has", answers.EVERY, asked))
    told = health.Told(options.health)
    agent.add(Task("telling how it is", _OFTEN, lambda: told.tell(agent.health())))
    figures = Figures(
        engine,
        settings,
        agent.health,
        lambda: dict(recorder.replies),
        lambda: [each.name for each in look_around.found],
        door.in_all,
    )
    served = _serve(settings, figures)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _caught, _frame: agent.stop())
    log.info("reading %s", files.name if files is not None else "the journal")
    agent.run()
    if served is not None:
        served.close()
    return 0


def _reload(files: LogFiles | None) -> tuple[Callable[[], None], bool]:
    """What has Postfix read the table, and whether it surely does. With systemd a unit waits for the table to change
    (`host.way_out`)."""
    return (files.reload, True) if isinstance(files, opener.Borrowed) else (lambda: None, False)


def _serve(settings: Settings, figures: Figures) -> Server | None:
    """Mail does not depend on it: what cannot be served is told, and the agent works all the same."""
    if settings.metrics is None:
        return None
    try:
        return Server(str(settings.metrics.address), settings.metrics.port, figures)
    except OSError as error:
        log.error("no figures at %s port %d: %s", settings.metrics.address, settings.metrics.port, error)
        return None


def _sources(recorder: Recorder, files: LogFiles | None, options: argparse.Namespace) -> list[Source]:
    found: list[Source] = []
    if files is not None:
        position = recorder.position(LogSource.name)
        known = None
        if position is not None:
            try:
                known = Position.of(position)
            except ValueError:
                log.error("the checkpoint of the log cannot be understood: it is read from its beginning")
        found.append(LogSource(Follower(files, known), MailLog()))
    else:
        found.append(JournalSource(MailLog(), recorder.position(JournalSource.name)))
    found.append(DecisionSource(Decisions(options.exchange, recorder.position(DecisionSource.name))))
    relay = options.suppressions.parent
    found.append(RelayLogSource(relay, recorder.position(RelayLogSource.name)))
    return found


def _tasks(engine: Engine, settings: Settings) -> list[Task]:
    def forgetting() -> None:
        forgotten = forget(engine, time.time() - settings.ledger.days * DAY)
        if forgotten:
            log.info(
                "%d messages were older than %d days, and are forgotten", forgotten, settings.ledger.days
            )

    return [Task("forgetting what is too old", _HOUR, forgetting)]


def _note(pid_file: Path | None, number: int) -> None:
    """Puts the pid file in place, whole: whoever reads it finds a number."""
    if pid_file is not None:
        fresh = pid_file.with_suffix(".new")
        fresh.write_text(f"{number}\n")
        fresh.rename(pid_file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="todoku-agent", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument("--log", type=Path, help="Postfix' log file; systemd's journal unless it is given")
    parser.add_argument("--user", default=USER, help="whom to become when started as root (%(default)s)")
    parser.add_argument(
        "--exchange", type=Path, default=decisions.FOLDER, help="where the gate's records are (%(default)s)"
    )
    parser.add_argument(
        "--suppressions",
        type=Path,
        default=suppressions.FILE,
        help="the relay's suppression list (%(default)s)",
    )
    parser.add_argument(
        "--alarms", type=Path, default=alarms.FOLDER, help="what others report to be wrong (%(default)s)"
    )
    parser.add_argument(
        "--way-out",
        type=Path,
        default=way_out.FOLDER,
        help="where to have mail wait for the relay's plan (%(default)s)",
    )
    parser.add_argument(
        "--health", type=Path, default=health.FILE, help="where to tell how the agent is (%(default)s)"
    )
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the parent process")
    return parser


if __name__ == "__main__":
    sys.exit(main())
