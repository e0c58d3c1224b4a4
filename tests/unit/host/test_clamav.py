# Promise: a scanner is installed only where the settings ask for one; then only the gate can use it, and it survives
# a first day without signatures.

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host import clamav, desired, packages
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import File
from todoku.host.stopped import Stopped
from todoku.plan.resource import ChangeFailed
from todoku.settings import Settings, parse

TOML = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""


def settings(more: str = '[gate]\nmalware = "clamav"\n') -> Settings:
    return parse(TOML + more, "todoku.toml")


def facts(manager: ServiceManager | None) -> Facts:
    return Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)


def files(manager: ServiceManager, wanted: Settings) -> dict[str, str]:
    found = clamav.resources(wanted, facts(manager))
    return {one.file.path: one.file.content for one in found if isinstance(one, File)}


def conf(wanted: Settings) -> dict[str, str]:
    lines = clamav.clamd_conf(wanted).splitlines()
    return dict(line.split(" ", 1) for line in lines if line and line[0] != "#")


@pytest.mark.parametrize("manager", ["systemd", "supervisord", None])
def test_nothing_of_it_is_there_unless_asked_for(manager: ServiceManager | None) -> None:
    off = settings("")
    assert clamav.resources(off, facts(manager)) == []
    assert not any("clam" in name for name in packages.wanted(off))
    assert not any("clam" in each.id for each in desired.resources(off, facts(manager), {}))


@pytest.mark.parametrize("manager", ["systemd", "supervisord"])
def test_asked_for_it_is_installed_configured_and_kept_running(manager: ServiceManager) -> None:
    assert {"clamav-daemon", "clamav-freshclam"} <= set(packages.wanted(settings()))
    ids = [each.id for each in desired.resources(settings(), facts(manager), {})]
    assert {"file:/etc/clamav/clamd.conf", "service:clamav-daemon", "service:clamav-freshclam"} <= set(ids)
    assert not any("clam" in need for each in desired.resources(settings(), facts(manager), {})
                   if each.id == "service:postfix" for need in each.needs)  # fmt: skip


OWN_SIGNATURES = settings('[gate]\nmalware = "clamav"\nmalware_updates = false\n')


def stopped(manager: ServiceManager) -> Stopped:
    (found,) = [each for each in clamav.resources(OWN_SIGNATURES, facts(manager)) if "freshclam" in each.id]
    assert isinstance(found, Stopped)
    return found


def test_signatures_of_ones_own_are_not_replaced_by_freshclam(tmp_path: Path) -> None:
    machine = FakeMachine(
        tmp_path, {"systemctl is-active": [(0, "", "")], "systemctl is-enabled": [(0, "", "")]}
    )
    freshclam = stopped("systemd")
    assert freshclam.id == "service:clamav-freshclam"
    change = freshclam.differ(freshclam.look(machine))
    assert change is not None
    assert change.summary == "stop clamav-freshclam, and have it not started at boot"
    freshclam.change(change, machine)
    assert machine.asked[-1] == "systemctl disable --now clamav-freshclam"


def test_a_freshclam_that_is_stopped_is_left_alone_until_its_package_is_installed_anew(
    tmp_path: Path,
) -> None:
    machine = FakeMachine(
        tmp_path, {"systemctl is-active": [(3, "", "")], "systemctl is-enabled": [(1, "", "")]}
    )
    freshclam = stopped("systemd")
    assert freshclam.differ(freshclam.look(machine)) is None
    freshclam.change(freshclam.triggered({"packages"}), machine)
    assert not any("disable" in line for line in machine.asked)
    assert freshclam.watches == {"packages"}


def test_a_freshclam_that_cannot_be_stopped_is_told(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, {"systemctl disable": [(1, "", "Access denied")]})
    freshclam = stopped("systemd")
    change = freshclam.differ(freshclam.look(machine))
    assert change is not None
    with pytest.raises(ChangeFailed, match="Access denied"):
        freshclam.change(change, machine)


def test_only_the_gate_can_tell_clamd_what_to_do() -> None:
    said = conf(settings())
    assert said["LocalSocketMode"] == "660"
    assert "TCPSocket" not in said
    for content in (files("systemd", settings()), files("supervisord", settings())):
        starter = next(text for path, text in content.items() if "clamav-daemon" in path)
        assert "install -d -o clamav -g postfix -m 2750 /run/clamav" in starter


def test_the_gates_limit_comes_before_clamds_and_nothing_is_passed_over() -> None:
    said = conf(settings('[gate]\nmalware = "clamav"\nmalware_size = "30 MB"\n'))
    assert int(said["StreamMaxLength"]) > 30_000_000
    assert int(said["MaxFileSize"]) == 30_000_000 < int(said["MaxScanSize"])
    assert said["AlertExceedsMax"] == "yes"
    assert int(said["MaxScanTime"]) < 20_000  # the gate's own deadline
    largest = conf(settings('[gate]\nmalware = "clamav"\nmalware_size = "1 GB"\n'))
    assert max(int(largest[name]) for name in ("StreamMaxLength", "MaxFileSize", "MaxScanSize")) < 2**31


def test_supervisord_can_read_its_sections() -> None:
    for path, text in files("supervisord", settings()).items():
        if path.startswith("/etc/supervisor"):
            parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
            parser.read_string(text)
            (section,) = parser.sections()
            shell = parser[section]["command"].removeprefix('/bin/sh -c "').removesuffix('"')
            assert subprocess.run(["sh", "-n", "-c", shell], check=False).returncode == 0


def test_systemd_finds_the_units_sound(tmp_path: Path) -> None:
    if subprocess.run(["which", "systemd-analyze"], capture_output=True, check=False).returncode:
        pytest.skip("no systemd-analyze here")
    for path, text in files("systemd", settings()).items():
        if not path.startswith("/etc/systemd"):
            continue
        name = Path(path).parent.name.removesuffix(".d")
        unit, dropin = tmp_path / name, tmp_path / f"{name}.d"
        unit.write_text("[Service]\nExecStart=/bin/true\n")
        dropin.mkdir()
        (dropin / "todoku.conf").write_text(text.replace("/usr/bin/freshclam", "/bin/true"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
        )
        ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
        assert ours == [], done.stderr


@pytest.mark.parametrize(
    ("name", "counts"), [("main.cvd", True), ("own.ndb", True), ("freshclam.dat", False)]
)
def test_what_counts_as_signatures(tmp_path: Path, name: str, counts: bool) -> None:
    from todoku.host.client import Host

    folder = tmp_path / "var/lib/clamav"
    folder.mkdir(parents=True)
    (folder / name).touch()
    assert clamav.has_signatures(Host(root=tmp_path)) is counts
