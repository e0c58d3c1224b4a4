"""Todoku in the benchmark "campaign", as a process of its own: the production sender with its database on the disk.

`python -m bench.campaign_todoku prepare FOLDER COUNT [DATABASE]` fills a list and creates a campaign; `... send FOLDER
PORT CONNECTIONS` sends all of it. `... share FOLDER PORT CONNECTIONS DATABASE NAME` is one of several workers: it says
READY, and begins when it is given a line. Each prints what it took, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path

from sqlalchemy import insert

from bench import campaign_letter as letter
from todoku.campaign import campaigns, lists, loops, tokens
from todoku.campaign.leases import on_database_time
from todoku.campaign.opened import Opened
from todoku.campaign.relay import Server
from todoku.campaign.sender import Sender
from todoku.campaign.template import Source
from todoku.delivery import privileges
from todoku.gate.limits import Limits
from todoku.settings import Settings
from todoku.store import campaign as store
from todoku.store import campaign_schema as schema

_MANY = 900_000_000  # the plan's limits: counted, and not reached
_AT_ONCE = 50_000  # rows that are filled in together


def main() -> None:
    what, folder, given = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    match what:
        case "prepare":
            said = prepare(folder, int(given[0]), *given[1:])
        case "send":
            said = send(folder, int(given[0]), int(given[1]))
        case _:
            said = send(folder, int(given[0]), int(given[1]), given[2], given[3])
    print(json.dumps(said))


def prepare(folder: Path, count: int, database: str = "") -> dict[str, float]:
    """`created`: seconds that creating the campaign took, its list being there."""
    store.migrate(_place(folder, database))
    tokens.make(folder / "key")
    opened = _opened(folder, 1, database)
    news = lists.create(opened, "news", "ほげ通信", "月に一度のお知らせ", double=True, is_open=True)
    for begin in range(0, count, _AT_ONCE):
        numbers = range(begin, min(count, begin + _AT_ONCE))
        with opened.write() as connection:
            common = {"language": "ja", "created": 0.0}
            people = [
                {
                    "id": each + 1,
                    "address": letter.address(each),
                    "attributes": {"first_name": letter.first_name(each)},
                    **common,
                }
                for each in numbers
            ]
            connection.execute(insert(schema.subscriber), people)
            agreed = {"list": news, "state": "confirmed", "since": 0.0, "has_evidence": True}
            connection.execute(
                insert(schema.subscription), [{"subscriber": each + 1, **agreed} for each in numbers]
            )
    begun = time.monotonic()
    campaigns.create(opened, "spring", "news", Source(letter.SUBJECT, letter.TEXT, letter.HTML))
    created = time.monotonic() - begun
    campaigns.start(opened, "spring")
    return {"created": created}


def send(folder: Path, port: int, connections: int, database: str = "", name: str = "") -> dict[str, float]:
    """Until all have been sent and recorded. Seconds, of the clock and of the processor; bytes."""
    opened = _opened(folder, connections, database)
    limits = Limits(opened.settings, folder / f"limits{name}.sqlite3")
    if name:
        privileges.import_everything(("todoku.campaign", "todoku.gate", "asyncpg", "pgqueuer"))
        opened = on_database_time(opened)
        print("READY", flush=True)
        sys.stdin.readline()
    begun, used = time.monotonic(), sum(os.times()[:2])
    with asyncio.Runner(loop_factory=loops.factory()) as runner:
        sender = Sender(opened, Server("127.0.0.1", port, None, None), limits)
        runner.run(sender.run(until_idle=True))
    ended, used = time.monotonic(), sum(os.times()[:2]) - used
    with opened.read() as connection:
        sent = campaigns.numbers(connection, 1).sent
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times = {"begun": begun, "ended": ended, "seconds": ended - begun}
    return {**times, "cpu": used, "memory": memory, "recorded": sent}


def _place(folder: Path, database: str) -> store.Place:
    return store.place(database or str(folder / "campaign.sqlite3"))


def _opened(folder: Path, connections: int, database: str = "") -> Opened:
    settings = Settings.model_validate(
        {
            "hostname": "mx.hoge.example",
            "addresses": "203.0.113.10",
            "postmaster": "alice@hoge.example",
            "domains": [{"name": "hoge.example"}],
            "relay": {
                "region": "ap-tokyo-1",
                "plan": {"per_minute": _MANY, "per_day": _MANY, "per_month": _MANY},
            },
            "campaign": {
                "sender": letter.SENDER,
                "sender_name": "ほげ",
                "url": "https://news.hoge.example",
                "per_second": 1_000_000,
                "connections": connections,
            },
        }
    )
    engine = store.open(_place(folder, database), kept=True)
    return Opened(engine, tokens.read(folder / "key"), settings)


if __name__ == "__main__":
    main()
