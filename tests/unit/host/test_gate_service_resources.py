# Promise: the gate runs with no more rights than it needs, wherever Todoku is installed, and before Postfix asks it.

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host import services
from todoku.host.client import Stat
from todoku.host.daemons import gate
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import Directory, File
from todoku.host.services import GATE, Service
from todoku.host.users import User
from todoku.plan.resource import Action, Change, ChangeFailed

SETTINGS = "/etc/todoku/todoku.toml"


def facts(manager: ServiceManager | None) -> Facts:
    return Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)


def starter(manager: ServiceManager, program: gate.Program) -> str:
    (file,) = (one for one in gate.resources(facts(manager), program) if isinstance(one, File))
    return file.file.content


def unit(*, code_is_open: bool, config: str = SETTINGS) -> list[str]:
    return starter("systemd", gate.Program(Path(config), code_is_open)).splitlines()


def test_systemd_starts_it_as_its_own_user_where_that_can_read_the_code() -> None:
    lines = unit(code_is_open=True)
    assert "User=todoku-gate" in lines
    assert "CapabilityBoundingSet=" in lines
    assert "NoNewPrivileges=yes" in lines


def test_code_that_only_root_can_read_is_started_as_root_with_the_right_to_become_that_user_and_no_other() -> (
    None
):
    lines = unit(code_is_open=False)
    assert not [
        line for line in lines if line.startswith("User=")
    ]  # systemd 257 takes CAP_SETUID from User=root
    assert "CapabilityBoundingSet=CAP_SETUID CAP_SETGID" in lines


def test_settings_in_a_home_folder_can_still_be_read() -> None:
    assert "ProtectHome=read-only" in unit(code_is_open=True, config="/root/todoku.toml")


def test_systemd_itself_finds_the_unit_sound(tmp_path: Path) -> None:
    if subprocess.run(
        ["sh", "-c", "command -v systemd-analyze"], check=False, capture_output=True
    ).returncode:
        pytest.skip("systemd-analyze is not installed")
    for code_is_open in (True, False):
        path = tmp_path / "todoku-gate.service"
        path.write_text("\n".join(unit(code_is_open=code_is_open)) + "\n")
        command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", str(path)]
        judged = subprocess.run(command, check=False, capture_output=True, text=True)
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert "Unknown key" not in judged.stderr


def test_supervisord_is_given_a_path_with_a_percent_sign_and_a_space_as_it_is_meant() -> None:
    odd = Path("/etc/100% mail/todoku.toml")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(starter("supervisord", gate.Program(odd)))
    command = parser["program:todoku-gate"]["command"] % {}  # as supervisord expands it
    words = shlex.split(command)
    assert words[:4] == [sys.executable, "-I", "-m", "todoku.gate"]
    assert words[words.index("--config") + 1] == str(odd)


def test_only_the_gate_writes_its_folder_and_only_postfix_reaches_the_socket() -> None:
    resources = gate.resources(facts("supervisord"), gate.Program())
    folders = {one.path: (one.mode, one.owner, one.group) for one in resources if isinstance(one, Directory)}
    assert folders == {
        "/var/spool/postfix/todoku": (0o2750, "todoku-gate", "postfix"),
        "/var/lib/todoku/gate": (0o750, "todoku-gate", "postfix"),
    }
    (user,) = (one for one in resources if isinstance(one, User))
    assert user.needs == {"packages"}  # postfix is a group that a package makes


def test_an_update_of_todoku_restarts_it_and_new_settings_only_reload_it() -> None:
    (service,) = (
        one for one in gate.resources(facts("supervisord"), gate.Program()) if isinstance(one, Service)
    )
    assert any(path.endswith("gate/server.py") for path in service.configuration)
    assert any(path.endswith("settings/models.py") for path in service.configuration)
    assert service.read_again == (SETTINGS,)
    assert SETTINGS not in service.configuration


class OpenTo(FakeMachine):
    """A machine on which one folder has another mode than the rest."""

    closed = ""

    def stat(self, path: str) -> Stat | None:
        return Stat("directory", 0o700 if path == self.closed else 0o755, "root", "root", 0.0)


@pytest.mark.parametrize(
    "closed", ["", str(Path(sys.prefix).parent), str(Path(os.path.realpath(sys.executable)).parent)]
)
def test_one_closed_folder_above_the_python_is_enough(tmp_path: Path, closed: str) -> None:
    machine = OpenTo(tmp_path)
    object.__setattr__(machine, "closed", closed)
    assert gate.code_is_open(machine) is (closed == "")


# --- reload ---


class Signalled(FakeMachine):
    """The gate takes in its settings when it is told, if it can."""

    willing = True

    def send_signal(self, pid: int, number: object) -> None:
        self.asked.append(f"{number} to {pid}")
        if self.willing:
            time.sleep(0.02)
            self.real(GATE.pid_file).write_text(f"{pid}\n")


class Manager:
    def enabled(self, *_: object) -> bool:
        return True

    def runs(self, *_: object) -> bool:
        return True

    def enable(self, *_: object) -> None:
        raise AssertionError("it is enabled")

    def restart(self, *_: object) -> None:
        raise AssertionError("a reload is enough")

    def said(self, *_: object) -> str:
        return "the new settings cannot be used"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signalled:
    """The settings were written after the gate had read them, a moment ago."""
    monkeypatch.setattr(services, "_SLACK", 0.005)
    monkeypatch.setattr(services, "_PATIENCE", 0.3)
    machine = Signalled(tmp_path)
    machine.process(77, GATE.process, time.time() - 60)
    for path in (GATE.pid_file, SETTINGS):
        machine.real(path).parent.mkdir(parents=True)
        machine.real(path).write_text("77\n")
        time.sleep(0.02)
    return machine


def service() -> Service:
    return Service(daemon=GATE, manager=Manager(), configuration=(), read_again=(SETTINGS,), reason="a test")


def test_settings_that_it_has_not_read_are_a_reload_and_after_it_nothing_is_left_to_do(
    machine: Signalled,
) -> None:
    change = service().differ(service().look(machine))
    assert change is not None
    assert change.summary == f"reload todoku-gate: {SETTINGS} changed after it was read"
    service().change(change, machine)
    assert len(machine.asked) == 1
    assert service().differ(service().look(machine)) is None


def test_a_reload_that_had_no_effect_fails_with_what_the_gate_said(machine: Signalled) -> None:
    object.__setattr__(machine, "willing", False)
    with pytest.raises(ChangeFailed, match=r"did not take in(.|\n)*the new settings cannot be used"):
        service().change(Change(Action.RUN, "reload"), machine)
