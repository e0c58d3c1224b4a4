"""Programs that nobody here wrote: `script/peers` has fetched them, and they are unpacked into the throw-away copy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_PACKAGES = Path(__file__).parents[2] / ".venv/peer-packages"


def unpack(name: str, folder: Path) -> None:
    """Into the root file system, by way of `folder`."""
    packages = sorted((_PACKAGES / name).glob("*.deb"))
    if not packages:
        pytest.fail(f"{name} is not there: run script/peers first")
    for package in packages:
        # Not straight into the root, whose /lib is a link; and not configured, which would make users.
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "unpacked")], check=True)
    copying = ["cp", "-a", str(folder / "unpacked/usr"), str(folder / "unpacked/etc"), "/"]
    subprocess.run(copying, check=True)
    subprocess.run(["ldconfig"], check=True)
