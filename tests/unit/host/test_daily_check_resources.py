# Promise: the daily look runs wherever Todoku does, and may write to the agent and to little else.

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from todoku.host.daemons import daily_check, gate
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import File


def unit(manager: ServiceManager) -> str:
    facts = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)
    (file,) = (one for one in daily_check.resources(facts, gate.Program()) if isinstance(one, File))
    return file.file.content


def test_both_service_managers_start_it() -> None:
    assert "ExecStart=" in unit("systemd")
    assert "[program:todoku-check]" in unit("supervisord")


def test_it_writes_for_the_agent_and_nowhere_else_of_consequence() -> None:
    (line,) = (line for line in unit("systemd").splitlines() if line.startswith("ReadWritePaths="))
    assert line.partition("=")[2].split() == [
        "/var/lib/todoku/check",
        "/var/lib/todoku/alarms",
        "/var/lib/todoku",
    ]


def test_systemd_itself_finds_the_unit_sound(tmp_path: Path) -> None:
    if subprocess.run(
        ["sh", "-c", "command -v systemd-analyze"], check=False, capture_output=True
    ).returncode:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "todoku-check.service"
    path.write_text(unit("systemd"))
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=50", str(path)]
    judged = subprocess.run(command, check=False, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert "Unknown key" not in judged.stderr
