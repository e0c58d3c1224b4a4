# Promise: what fetches the suppression list runs only where there is a cloud to ask, and leaves it for the agent alone.

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from todoku.host.daemons import gate, relay_watch
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import Directory, File
from todoku.settings import Settings

BASE = {
    "hostname": "mx.hoge.example",
    "addresses": ["203.0.113.10"],
    "postmaster": "alice@hoge.example",
    "domains": [{"name": "hoge.example"}],
    "relay": {"region": "ap-tokyo-1"},
}
CLOUD = BASE | {"cloud": {"compartment": "ocid1.compartment.oc1..aaaaaaaaexample"}}


def resources(manager: ServiceManager, settings: dict[str, object] = CLOUD):
    facts = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)
    return relay_watch.resources(Settings.model_validate(settings), facts, gate.Program())


def test_without_a_cloud_there_is_nothing_to_fetch() -> None:
    assert resources("supervisord", BASE) == []


def test_only_the_agents_group_reads_what_was_fetched() -> None:
    (folder,) = (one for one in resources("supervisord") if isinstance(one, Directory))
    assert (folder.path, folder.mode, folder.owner, folder.group) == (
        "/var/lib/todoku/relay", 0o750, "root", "todoku-agent",
    )  # fmt: skip


def test_systemd_itself_finds_the_unit_sound(tmp_path: Path) -> None:
    if subprocess.run(
        ["sh", "-c", "command -v systemd-analyze"], check=False, capture_output=True
    ).returncode:
        pytest.skip("systemd-analyze is not installed")
    (file,) = (one for one in resources("systemd") if isinstance(one, File))
    path = tmp_path / "todoku-relay.service"
    path.write_text(file.file.content)
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=50", str(path)]
    judged = subprocess.run(command, check=False, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert "Unknown key" not in judged.stderr
