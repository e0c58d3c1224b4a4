# The answer to "where is my mail?" is needed while somebody waits on the telephone.

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from todoku.delivery.trace import trace
from todoku.store import ledger

pytestmark = pytest.mark.slow  # makes a ledger of a million recipients
MESSAGES = """
WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < 1000000)
INSERT INTO message (id, arrived, queue_id, message_id, sender, removed)
SELECT n, 1795500000 + n, printf('4a%011d', n), printf('<%d@hoge.example>', n), printf('s%d@hoge.example', n % 50),
1795500000 FROM series
"""
RECIPIENTS = """
WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < 1000000)
INSERT INTO recipient (id, message, address, state, since)
SELECT n, n, printf('r%d@mailbox%d.example', n % 9000, n % 7), 'accepted', 1795500000 FROM series
"""


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A million recipients of as many messages, many of them to the same few addresses."""
    place = ledger.Place(str(tmp_path_factory.mktemp("million") / "ledger.sqlite3"))
    ledger.migrate(place)
    engine = ledger.open(place)
    with ledger.write(engine) as connection:
        connection.execute(text("PRAGMA cache_size = -200000"))
        connection.execute(text(MESSAGES))
        connection.execute(text(RECIPIENTS))
    return engine


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "what",
    ["s7@hoge.example", "r8@mailbox1.example", "<999@hoge.example>", "4a00000765432", "none@hoge.example"],
)
def test_among_a_million_recipients_the_answer_takes_less_than_300_ms(million: Engine, what: str) -> None:
    trace(million, what)
    began = time.perf_counter()
    found = trace(million, what)
    took = time.perf_counter() - began
    assert bool(found) is not what.startswith("none")
    assert took < 0.3, took
    assert Path(str(million.url.database)).stat().st_size > 200_000_000
