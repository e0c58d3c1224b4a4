# One of several workers, as a process of its own that a test can kill or cut off. Takes what it has to know as JSON;
# "ahead" is a file that says how many seconds the clock of all of them is ahead; "look", how often they look for work.

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path

from campaign_place import settings

from todoku.campaign import sender as sending
from todoku.campaign import tokens, workers
from todoku.campaign.leases import DatabaseClock, on_database_time
from todoku.campaign.opened import Opened
from todoku.campaign.relay import Server
from todoku.campaign.sender import Sender
from todoku.gate.limits import Limits
from todoku.store import StoreError
from todoku.store import campaign as store

given = json.loads(sys.argv[1])


class Ahead(DatabaseClock):
    def __call__(self) -> float:
        return super().__call__() + float(Path(given["ahead"]).read_text())


async def main() -> None:
    sender = Sender(opened, relay, limits, given["lease"])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sender.stop)
    await sender.run()


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
wanted = settings(plan=given["plan"], **given["campaign"])
try:
    engine = store.open(store.place(given["database"]), kept=True)
    opened = on_database_time(Opened(engine, tokens.read(Path(given["key"])), wanted))
    if "look" in given:
        workers.LOOK = sending._IDLE = given["look"]
    if "ahead" in given:
        opened = replace(opened, clock=Ahead(engine))
    limits = Limits(wanted, Path(given["limits"]))
    relay = Server(given["relay"][0], given["relay"][1], None, None, given["name"])
    asyncio.run(main())
except StoreError as error:
    sys.exit(f"cannot go on: {error}")
