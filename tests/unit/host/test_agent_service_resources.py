# Promise: the agent, which reads what strangers get written into logs, has no more rights than it needs.

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from todoku.host.daemons import agent, gate
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import Directory, File
from todoku.host.services import Service
from todoku.host.users import User
from todoku.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "hostname": "mx.hoge.example",
        "addresses": ["203.0.113.10"],
        "postmaster": "alice@hoge.example",
        "domains": [{"name": "hoge.example"}],
        "relay": {"region": "ap-tokyo-1"},
    }
)


def resources(manager: ServiceManager | None, program: gate.Program = gate.Program()):  # noqa: B008 - frozen
    facts = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)
    return agent.resources(SETTINGS, facts, program)


def starter(manager: ServiceManager, *, code_is_open: bool) -> list[str]:
    program = gate.Program(Path("/etc/todoku/todoku.toml"), code_is_open)
    (file,) = (one for one in resources(manager, program) if isinstance(one, File))
    return file.file.content.splitlines()


def test_systemd_starts_it_as_its_own_user_who_may_read_the_journal_and_the_queue_and_nothing_else() -> None:
    lines = starter("systemd", code_is_open=True)
    assert {
        "User=todoku-agent",
        "SupplementaryGroups=systemd-journal postdrop",
        "CapabilityBoundingSet=",
    } <= set(lines)
    assert "ReadWritePaths=/var/lib/todoku/ledger /var/lib/todoku/exchange /var/lib/todoku/way-out" in lines
    (command,) = (line for line in lines if line.startswith("ExecStart="))
    assert "--log" not in command


def test_code_that_only_root_can_read_is_started_as_root_with_the_right_to_become_that_user_and_no_other() -> (
    None
):
    lines = starter("systemd", code_is_open=False)
    assert "CapabilityBoundingSet=CAP_SETUID CAP_SETGID" in lines
    assert not [
        line for line in lines if line.startswith("User=")
    ]  # systemd 257 takes CAP_SETUID from User=root


def test_without_systemd_it_reads_the_file_that_postfix_writes() -> None:
    (command,) = (line for line in starter("supervisord", code_is_open=True) if line.startswith("command="))
    words = shlex.split(command.removeprefix("command="))
    assert words[words.index("--log") + 1] == "/var/log/mail.log"


def test_systemd_itself_finds_the_unit_sound(tmp_path: Path) -> None:
    if subprocess.run(
        ["sh", "-c", "command -v systemd-analyze"], check=False, capture_output=True
    ).returncode:
        pytest.skip("systemd-analyze is not installed")
    for code_is_open in (True, False):
        path = tmp_path / "todoku-agent.service"
        path.write_text("\n".join(starter("systemd", code_is_open=code_is_open)) + "\n")
        command = ["systemd-analyze", "security", "--offline=yes", "--threshold=30", str(path)]
        judged = subprocess.run(command, check=False, capture_output=True, text=True)
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert "Unknown key" not in judged.stderr


def test_only_the_agent_reads_the_ledger_and_only_gate_and_agent_what_they_tell_each_other() -> None:
    wanted = resources("supervisord")
    folders = {one.path: (one.mode, one.owner, one.group) for one in wanted if isinstance(one, Directory)}
    assert folders == {
        "/var/lib/todoku/ledger": (0o750, "todoku-agent", "todoku-agent"),
        "/var/lib/todoku/exchange": (0o2770, "todoku-gate", "todoku-agent"),
        "/var/lib/todoku/alarms": (0o2750, "root", "todoku-agent"),
    }
    (user,) = (one for one in wanted if isinstance(one, User))
    assert user.group == "todoku-agent"


def test_new_settings_and_an_update_of_todoku_restart_it() -> None:
    (service,) = (one for one in resources("supervisord") if isinstance(one, Service))
    assert "/etc/todoku/todoku.toml" in service.configuration
    assert any(path.endswith("delivery/agent.py") for path in service.configuration)
    assert any(path.endswith("store/ledger.py") for path in service.configuration)
    assert "ledger:schema" in service.follows
