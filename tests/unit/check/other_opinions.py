"""Where other programs judge the matrices differently: docs/check-others.md has each with its reason, and the tests
hold that page against what the programs really say.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs/check-others.md"
_ROW = re.compile(
    r"^\| (?P<who>checkdmarc|dkimpy|rspamd) \| (?P<names>[^|]+) \| (?P<why>[^|]+) \|$", re.MULTILINE
)


def different(who: str) -> dict[str, str]:
    """Name of the mutation -> why that program's verdict is another than ours."""
    found: dict[str, str] = {}
    for row in _ROW.finditer(PAGE.read_text()):
        if row["who"] != who:
            continue
        for name in row["names"].split(";"):
            assert name.strip() not in found, f"{name} is there twice"
            found[name.strip()] = row["why"].strip()
    return found
