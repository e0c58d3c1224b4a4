from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from office import Office

from todoku.quarantine import unpacker
from todoku.quarantine.archive import Bounds


@pytest.fixture
def office() -> Iterator[Office]:
    unpacking = unpacker.start(None, Bounds())
    with tempfile.TemporaryDirectory() as folder:
        yield Office(Path(folder), unpacking)
    unpacking.close()
