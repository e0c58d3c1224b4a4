# A certificate that nobody renews stops mail within months, and a renewal that may do anything on the machine is one
# more door.

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host.certificates import resources as certificates
from todoku.host.certificates.resources import Timer
from todoku.host.daemons.gate import Program
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import File
from todoku.plan.resource import Action
from todoku.settings import Settings

BASE = {
    "hostname": "mx.hoge.example",
    "addresses": ["203.0.113.10"],
    "postmaster": "alice@hoge.example",
    "domains": [{"name": "hoge.example"}],
    "relay": {"region": "ap-tokyo-1"},
    "tls": {"internal_name": "mx.hoge.internal"},
}
WORST_EXPOSURE = 2.5  # of systemd-analyze security: 0 is locked up, 10 is open


def files(manager: ServiceManager) -> dict[str, str]:
    facts = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)
    wanted = certificates.renewal(Settings.model_validate(BASE), facts, Program())
    return {Path(each.file.path).name: each.file.content for each in wanted if isinstance(each, File)}


def test_systemd_itself_finds_the_unit_locked_up_and_the_timer_sound(tmp_path: Path) -> None:
    if subprocess.run(
        ["sh", "-c", "command -v systemd-analyze"], check=False, capture_output=True
    ).returncode:
        pytest.skip("systemd-analyze is not installed")
    for name, content in files("systemd").items():
        (tmp_path / name).write_text(content)
    unit, timer = (tmp_path / f"todoku-certificates.{kind}" for kind in ("service", "timer"))
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert found is not None and float(found[1]) <= WORST_EXPOSURE, judged.stdout
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(timer)], check=False, capture_output=True, text=True
    )
    assert "todoku-certificates" not in verified.stderr, verified.stderr


def test_a_timer_that_does_not_run_is_started_and_will_be_after_a_reboot(tmp_path: Path) -> None:
    timer = Timer(name="todoku-certificates.timer", reason="")
    host = FakeMachine(
        tmp_path, {"systemctl is-enabled": [(1, "", "")], "systemctl is-active": [(0, "", "")]}
    )
    change = timer.differ(timer.look(host))
    assert change is not None and change.action is Action.RUN
    timer.change(change, host)
    assert host.asked[-3:] == [
        "systemctl daemon-reload",
        "systemctl enable todoku-certificates.timer",
        "systemctl restart todoku-certificates.timer",
    ]


def test_the_program_under_supervisord_goes_on_after_a_round_that_fails_and_stops_when_told(
    tmp_path: Path,
) -> None:
    assert "todoku.cli.services.certificate_watch" in files("supervisord")["todoku-certificates.conf"]
    pid, config = tmp_path / "pid", tmp_path / "missing.toml"
    command = [
        sys.executable,
        "-m",
        "todoku.cli.services.certificate_watch",
        "--config",
        str(config),
        "--first",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--every", "0.1", "--pid-file", str(pid)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(3)]  # each round says what is wrong
        assert any("missing.toml" in line for line in said), said
        assert pid.read_text() == f"{process.pid}\n"
        assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0
        process.stderr.close()
