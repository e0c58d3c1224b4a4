# Sends what is due in a database, as a process of its own that a test can kill.

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from campaign_place import settings

from todoku.campaign import tokens
from todoku.campaign.opened import Opened
from todoku.campaign.relay import Server
from todoku.campaign.sender import Sender
from todoku.gate.limits import Limits
from todoku.store import campaign as store

folder, port = Path(sys.argv[1]), int(sys.argv[2])
given = settings(plan={"per_minute": 18000, "per_day": 50000, "per_month": 1_500_000}, per_second=10_000)
engine = store.open(store.place(str(folder / "campaign.sqlite3")), kept=True)
opened = Opened(engine, tokens.read(folder / "key"), given)
limits = Limits(given, folder / "limits.sqlite3")
asyncio.run(Sender(opened, Server("127.0.0.1", port, None, None), limits).run(until_idle=True))
