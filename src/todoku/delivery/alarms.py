"""What is wrong at the moment, said by whoever found it: the postmaster is told when it begins and when it is over.

Any part of Todoku that knows of something that somebody has to do something about (the daily check, the renewal of the
certificate, a campaign) says all that it finds wrong *now*, each time that it looks:

    alarms.report("check", [Alarm("dkim:hoge.example", "the DKIM key cannot be found", "run `todoku apply`")])
    alarms.report("check", [])  # all is well again

That is a file, in place at once and whole, which the agent reads: it compares what is wrong with what the postmaster
has been told, and writes a mail about what is new and what is over (`postmaster`). To say the same again tells nobody
anything; nothing is lost while the agent is down. `todoku status` shows it too.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path("/var/lib/todoku/alarms")  # the agent's group may read it (`host.agent`)
CALM = 120.0  # seconds
_SOURCE = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_LARGEST = 1_000_000  # bytes of a report


@dataclass(frozen=True, slots=True)
class Alarm:
    """`name` stays the same while it lasts; `found` says in one sentence what was seen, `advice` what to do now.

    `settle`: for how many seconds it has to last until anybody is told; a restart is none. `calm`: for how many seconds
    it has to be gone until it is over: what comes and goes is one alarm.
    """

    name: str  # "service:todoku-gate", at most 200 characters
    found: str
    advice: str
    calm: float = CALM
    settle: float = 0.0


def report(source: str, found: Iterable[Alarm], folder: Path = FOLDER) -> None:
    """All that is wrong by what `source` ("check", "certificate", "campaign.news") has seen now; it replaces what
    `source` said before. The postmaster knows each alarm as `SOURCE:NAME`.

    Raises OSError when it cannot be written, ValueError for a source that is no plain word in lower case.
    """
    path = _path(source, folder)
    text = json.dumps([asdict(alarm) for alarm in found])
    number, fresh = tempfile.mkstemp(prefix=".", dir=folder)
    try:
        with os.fdopen(number, "w") as file:
            os.fchmod(number, 0o640)  # its group is that of the folder, which is set-group-id
            file.write(text)
            file.flush()
            os.fsync(number)
        Path(fresh).rename(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def withdraw(source: str, folder: Path = FOLDER) -> None:
    """`source` is no more: what it said is over. Raises OSError, ValueError."""
    _path(source, folder).unlink(missing_ok=True)


def reported(folder: Path = FOLDER) -> list[Alarm]:
    """What all sources say is wrong, sorted; what cannot be understood is an alarm itself. Raises OSError."""
    found: list[Alarm] = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            with suppress(FileNotFoundError):  # withdrawn meanwhile
                found += _read(path)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            said = f"{path} cannot be understood: {error!r:.200}"
            found.append(Alarm(f"{path.stem}:report", said, "remove it; it is written anew"))
    return found


def _path(source: str, folder: Path) -> Path:
    if not _SOURCE.fullmatch(source):
        raise ValueError(f"{source!r} is no name for who reports alarms: lower case, digits, . _ - only")
    return folder / f"{source}.json"


def _read(path: Path) -> list[Alarm]:
    with path.open("rb") as file:
        octets = file.read(_LARGEST + 1)
    if len(octets) > _LARGEST:
        raise ValueError("it is too large")
    return [
        Alarm(
            f"{path.stem}:{each['name']}"[:200],
            str(each["found"]),
            str(each["advice"]),
            float(each.get("calm", CALM)),
            float(each.get("settle", 0.0)),
        )
        for each in json.loads(octets)
    ]
