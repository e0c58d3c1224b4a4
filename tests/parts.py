"""What the tests of a world and of a machine have in common: several of each can share the work (`--part`)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

MACHINE = Path(__file__).parent / "machine"
# How long each file took with three worlds at once (`--durations 0`, summed): only the balance depends on it.
SECONDS: dict[str, float] = json.loads(Path(__file__).with_name("seconds.json").read_text())
A_TEST = 3.0  # seconds, where nothing was measured


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="only the K-th of N parts of the tests")


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of one part; which tests that are depends on their names and on `SECONDS` only."""
    part = config.getoption("--part")
    if not part:
        return
    number, _, of = part.partition("/")
    # The longest group first, each to the part that has the least so far.
    tests = {(_group(item), getattr(item, "originalname", "")) for item in items}
    sizes = {
        group: SECONDS.get(Path(group).name, A_TEST * count)
        for group, count in Counter(group for group, _ in tests).items()
    }
    seconds = [0.0] * int(of)
    chosen: set[str] = set()
    for group in sorted(sizes, key=lambda group: (-sizes[group], group)):
        least = seconds.index(min(seconds))
        seconds[least] += sizes[group]
        if least == int(number) - 1:
            chosen.add(group)
    config.hook.pytest_deselected(items=[item for item in items if _group(item) not in chosen])
    items[:] = [item for item in items if _group(item) in chosen]


def _group(item: pytest.Item) -> str:
    """What has to stay together: a file whose tests share one world, or a test that makes a world of its own."""
    return item.nodeid if item.path.is_relative_to(MACHINE) else str(item.path)
