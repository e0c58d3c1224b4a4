# What a page says one can look at, one can: the blocks that are marked as run are run here, line by line.

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import World

CHECKOUT = Path(__file__).resolve().parents[2]
RUNS = re.compile(r"^<!-- runs in the world -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES = [
    (page.name, line)
    for page in sorted(CHECKOUT.glob("docs/*.md"))
    for block in RUNS.findall(page.read_text())
    for line in block.splitlines()
]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[line for _, line in LINES])
def test_a_command_of_the_documentation_works(world: World, page: str, line: str) -> None:
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"
    assert done.stdout.strip()
