"""A directory in a temporary folder, with settings to try."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from todoku.directory import Exporter, Owners, Place
from todoku.settings import Settings, parse

FAKE = Path(__file__).with_name("fake_postmap")


class SettingsFor(Protocol):
    def __call__(self, *domains: str, postmaster: str = "", mode: str = "virtual") -> Settings: ...


def settings_for(*domains: str, postmaster: str = "", mode: str = "virtual") -> Settings:
    domains = domains or ("hoge.example", "日本.example")
    listed = "".join(f'[[domains]]\nname = "{name}"\n' for name in domains)
    return parse(
        f"""
        hostname = "mx.host.example"
        addresses = "203.0.113.10"
        postmaster = "{postmaster or "alice@" + domains[0]}"
        {listed}
        [relay]
        region = "ap-tokyo-1"
        [accounts]
        mode = "{mode}"
        """,
        "todoku.toml",
    )


def real_postmap() -> bool:
    if shutil.which("postmap") is None or shutil.which("postconf") is None:
        return False
    tables = subprocess.run(["postconf", "-m"], capture_output=True, text=True, check=False).stdout
    return "lmdb" in tables.split()


def owners() -> Owners:
    return Owners((5000, 5001), os.getgid(), os.getgid(), os.getuid())


def place_in(folder: Path, *, fake: bool = False) -> Place:
    """With the real postmap where there is one: its maps are what Postfix would read."""
    postmap = ("postmap",) if real_postmap() and not fake else (str(FAKE),)
    exporter = Exporter(folder / "directory", folder / "mail", owners, postmap)
    return Place(folder / "todoku.sqlite3", exporter)
