from __future__ import annotations

from pathlib import Path

import pytest
from outbound_mail import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
