# `todoku apply` makes both databases at the same time, and Alembic knows of one at a time in a process: on a slow
# machine the second one used to fail.

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from todoku.store import database, ledger


def test_both_databases_can_be_made_at_the_same_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [
            pool.submit(make, tmp_path / f"{number}-{kind}")
            for number in range(8)
            for kind, make in (("store", database.migrate), ("ledger", _make_ledger))
        ]
        for each in made:
            each.result()
    assert database.current_revision(tmp_path / "7-store") == database.wanted_revision()
    assert ledger.current_revision(ledger.Place(str(tmp_path / "7-ledger"))) == ledger.wanted_revision()


def _make_ledger(path: Path) -> None:
    ledger.migrate(ledger.Place(str(path)))
