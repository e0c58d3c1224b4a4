# Promise: what looks into strangers' archives exists only where it is asked for, and can do nothing but its work.

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host import managers
from todoku.host.daemons import gate, page, quarantine
from todoku.host.facts import Facts, Version
from todoku.host.files import Directory, File
from todoku.settings import Settings, SettingsError, parse

SETTINGS = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
HOLDS = '[gate]\nmalware = "clamav"\n[protect]\nincoming_zip = "quarantine"\n'
PROGRAM = gate.Program(Path("/etc/todoku/todoku.toml"))
FACTS = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, "systemd")
WORST_EXPOSURE = 2.5  # of systemd-analyze security


def settings(more: str) -> Settings:
    return parse(SETTINGS + more, "todoku.toml")


def test_only_where_mail_is_held_and_then_with_a_page() -> None:
    (stopped,) = quarantine.resources(settings(""), FACTS, PROGRAM)
    assert stopped.id == "service:todoku-quarantine"
    assert quarantine.resources(settings(""), replace(FACTS, service_manager=None), PROGRAM) == []
    assert quarantine.folders(settings("")) == ()
    assert page.resources(settings(HOLDS), FACTS, PROGRAM)
    assert quarantine.folders(settings(HOLDS)) == ("/var/lib/todoku/quarantine/messages",)


def test_switched_off_it_is_stopped_and_who_applies_that_is_told_what_is_still_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (resource,) = quarantine.resources(settings(""), FACTS, PROGRAM)
    assert isinstance(resource, quarantine.QuarantineStopped)
    state, host = {"kept": False}, FakeMachine(tmp_path)
    monkeypatch.setattr(managers.Systemd, "kept", lambda *_: state["kept"])
    monkeypatch.setattr(managers.Systemd, "stop", lambda *_: state.update(kept=False))
    assert resource.differ(resource.look(host)) is None  # it never was there
    state["kept"] = True
    change = resource.differ(resource.look(host))
    assert change is not None
    assert change.summary == "stop todoku-quarantine, and have it not started at boot"
    for name, is_held in (
        ("a" * 40, True),
        ("b" * 40, False),
        (".c", True),
    ):  # one is decided, one unfinished
        folder = tmp_path / quarantine.MESSAGES.lstrip("/") / name
        folder.mkdir(parents=True)
        if is_held:
            (folder / "message.eml").touch()
    change = resource.differ(resource.look(host))
    assert change is not None
    assert "; still held: 1 (todoku protect held list)" in change.summary
    resource.change(change, host)
    assert not state["kept"]
    assert resource.differ(resource.look(host)) is None
    assert (tmp_path / quarantine.MESSAGES.lstrip("/") / ("a" * 40) / "message.eml").exists()


def test_without_a_scanner_it_is_refused() -> None:
    with pytest.raises(SettingsError, match="protects nobody without a scanner"):
        settings('[protect]\nincoming_zip = "quarantine"\n')


def test_the_page_gets_at_the_socket_and_at_no_message() -> None:
    wanted = quarantine.resources(settings(HOLDS), FACTS, PROGRAM)
    folders = {one.path: one for one in wanted if isinstance(one, Directory)}
    messages, door = folders[quarantine.MESSAGES], folders[quarantine.DOOR]
    assert (messages.owner, messages.group, messages.mode) == ("todoku-gate", "todoku-quarantine", 0o2770)
    assert (door.owner, door.group, door.mode) == ("todoku-quarantine", "todoku-web", 0o2750)


def test_it_is_locked_up(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    wanted = quarantine.resources(settings(HOLDS), FACTS, PROGRAM)
    (file,) = (one for one in wanted if isinstance(one, File))
    unit = tmp_path / "todoku-quarantine.service"
    unit.write_text(file.file.content)
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert found, said.stdout + said.stderr
    assert float(found[1]) <= WORST_EXPOSURE, said.stdout
