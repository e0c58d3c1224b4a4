"""What the postmaster was told, for tests: mail in the mailbox, and what the agent remembers of it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Account, World, wait


def subjects(world: World, beginning: str) -> list[str]:
    """Of the postmaster's mail."""
    with world.imap(postmaster(world)) as imap:
        imap.select("INBOX", readonly=True)
        found = imap.search(None, "SUBJECT", f'"{beginning}"')[1][0].split()
        return [
            b" ".join(part[1].split()).decode()
            for number in found
            for part in imap.fetch(number.decode(), "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            if isinstance(part, tuple)
        ]


def postmaster(world: World) -> Account:
    text = Path("/etc/todoku/todoku.toml").read_text()
    return world.alice if f'postmaster = "{world.alice.address}"' in text else world.bob


def all_clear(world: World) -> None:
    """Nothing waits, and the postmaster knows of nothing that is wrong: whatever is told now is news."""
    world.flush()
    time.sleep(1)
    subprocess.run(["postsuper", "-d", "ALL"], check=True, capture_output=True)
    try:
        wait(lambda: not told() and not on_their_way(), "the alarms of other tests to be over", 40)
    except pytest.fail.Exception as failed:
        raise AssertionError(f"{on_their_way()} notices on their way, and told of {told()}") from failed
    time.sleep(0.5)  # from Postfix into the mailbox


def told() -> dict[str, Any]:
    """What the postmaster has been told of, and is not over."""
    query = "SELECT position FROM checkpoint WHERE source = 'what the postmaster was told'"
    kept = _ask(query)
    found: dict[str, Any] = json.loads(kept) if kept else {}
    return found


def on_their_way() -> int:
    return int(_ask("SELECT count(*) FROM notice WHERE state IN ('waiting', 'sending')"))


def _ask(query: str) -> Any:
    with closing(sqlite3.connect("/var/lib/todoku/ledger/ledger.sqlite3")) as connection:
        found = connection.execute(query).fetchone()
    return found[0] if found else None
