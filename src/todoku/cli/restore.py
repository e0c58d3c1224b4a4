"""`todoku restore`: a backup is unlocked, checked as a whole, and only then put in place."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts import locks
from todoku.cli.parts.context import FAILED, USAGE, fail, print_json, require_root
from todoku.cli.parts.people import refuse, say

if TYPE_CHECKING:
    from todoku.host.backup.restore import Unpacked
    from todoku.host.backup.restored_campaigns import Held
    from todoku.host.client import Host

_DECISION = "/var/lib/todoku/.restore/decision.json"


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    identity: Annotated[
        Path | None,
        typer.Option("--identity", metavar="FILE", help="The file with the secret key of age or SSH."),
    ] = None,
    passphrase_file: locks.PassphraseFile = None,
    over_newer: Annotated[
        bool,
        typer.Option(
            "--over-newer", help="Also over a state that is newer than the backup.", show_default=False
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Put settings, secrets, accounts (and mail) of a backup in place. What was there is kept beside it.

    On a new machine `todoku apply` comes next, and does the rest.
    """
    from todoku.cli.plan import LOCK
    from todoku.host.backup import restore as restoring
    from todoku.host.backup import restored_campaigns
    from todoku.host.backup.backup import BackupError, state_of
    from todoku.host.client import Host
    from todoku.plan.lock import LockedError, exclusive

    require_root("todoku restore")
    host = Host()
    _refuse_running(host, as_json=as_json)
    key = locks.secret(identity, as_json=as_json) if identity else ""
    passphrase = "" if key else locks.passphrase(passphrase_file, new=False, as_json=as_json)
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(LOCK, "`todoku apply` or `todoku restore`"))
            here = state_of(host)
            unpacked = restoring.unpack(host, file, passphrase=passphrase, identities=(key,) if key else ())
            held.callback(_tidy, host)
            _refuse_unknown(host, unpacked, as_json=as_json)
            if here > unpacked.manifest.state + 1 and not over_newer:
                refuse(_newer(here, unpacked), FAILED, as_json=as_json)
            _ask(unpacked, yes=yes, as_json=as_json)
            held_back = restored_campaigns.hold(host, unpacked.manifest.created)
            restoring.put_in_place(host, unpacked)
        except (BackupError, LockedError) as error:
            refuse(str(error), FAILED, as_json=as_json)
        except OSError as error:
            refuse(f"{error.strerror}: {error.filename or file}{_how_far()}", FAILED, as_json=as_json)
    _tell(unpacked, held_back, as_json=as_json)


def go_on_with_a_decided_one() -> None:
    """Finish a restore that was killed after it had been decided. Called before every command; mostly for nothing."""
    if os.geteuid() != 0 or not os.path.exists(_DECISION):  # noqa: PTH110 - never raises
        return
    from todoku.host.backup.restore import go_on
    from todoku.host.client import Host

    try:
        went_on = go_on(Host())
    except (OSError, ValueError) as error:
        fail(
            f"a restore that was interrupted could not be finished: {error}. See to that, then run any command"
        )
    if went_on:
        print("note: a restore that was interrupted is finished now", file=sys.stderr)


def _refuse_running(host: Host, *, as_json: bool) -> None:
    """Services that run would go on with what is replaced, or write into it."""
    from todoku.host import processes
    from todoku.host.services import CAMPAIGN, DOVECOT, GATE, PAGES, POSTFIX

    daemons = (POSTFIX, DOVECOT, GATE, CAMPAIGN, PAGES)
    running = [each.name for each in daemons if processes.main_process(host, each.pid_file, each.process)]
    if running:
        names = " ".join(running)
        refuse(
            f"{', '.join(running)} runs: stop it first (systemctl stop {names}); `todoku apply` starts it again",
            FAILED,
            as_json=as_json,
        )


def _refuse_unknown(host: Host, unpacked: Unpacked, *, as_json: bool) -> None:
    """The database has to be one that this version knows, or can migrate."""
    from todoku import store
    from todoku.host.backup.backup import DATABASE

    if DATABASE not in unpacked.manifest.files:
        return
    try:
        store.open(host.real("/var/lib/todoku/.restore/new/todoku.sqlite3")).dispose()
    except store.StoreOlderError:
        return  # `todoku apply` migrates it
    except store.StoreError as error:
        refuse(f"nothing was changed: {error}", FAILED, as_json=as_json)


def _newer(here: float, unpacked: Unpacked) -> str:
    there = unpacked.manifest.state
    return (
        f"nothing was changed: what is on this machine was last changed at {_time(here)}, the backup holds the "
        f"state of {_time(there)}. With --over-newer it is restored all the same; what is there now is kept in "
        "/etc/todoku/before-restore and /var/lib/todoku/before-restore"
    )


def _ask(unpacked: Unpacked, *, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        refuse("nothing was changed: nobody can be asked here; add --yes", USAGE, as_json=as_json)
    made = unpacked.manifest
    say(f"A backup of {made.hostname} from {made.created}: {len(made.files)} files, mail: {made.mail}.")
    if not typer.confirm("Put it in place?", default=False):
        refuse("nothing was changed", FAILED, as_json=as_json)


def _tidy(host: Host) -> None:
    from todoku.host.backup.restore import discard

    if not os.path.exists(_DECISION):  # noqa: PTH110
        discard(host)


def _how_far() -> str:
    if os.path.exists(_DECISION):  # noqa: PTH110
        return ". The restore is half done: make room, then any `todoku` command finishes it"
    return ". Nothing was changed"


def _tell(unpacked: Unpacked, held: Held, *, as_json: bool) -> None:
    made = unpacked.manifest
    following = "todoku plan, then todoku apply"
    if as_json:
        told = {"ok": True, "hostname": made.hostname, "created": made.created, "files": len(made.files)}
        bulk = {
            "paused_campaigns": list(held.paused),
            "taken_over": asdict(held.taken_over) if held.taken_over else None,
        }
        print_json(told | {"mail": made.mail, **bulk, "next": following})
        return
    say(f"Restored {len(made.files)} files of {made.hostname}, as they were at {_time(made.state)}.")
    say("What was there before is kept in /etc/todoku/before-restore and /var/lib/todoku/before-restore.")
    if taken := held.taken_over:
        say(
            f"Taken over from the lists that were in place: {taken.settled:,} messages that were sent or refused since "
            f"then, {taken.unsubscribed:,} who unsubscribed, {taken.forgotten:,} who were forgotten."
        )
    if held.paused:
        say(
            f"Paused, as they were being sent when the backup was made: {', '.join(held.paused)}. What happened since "
            "then and was not taken over is not known here: `todoku campaign start` says what that means."
        )
    say(f"Next: {following}")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
