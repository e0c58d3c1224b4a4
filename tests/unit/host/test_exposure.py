# Promise: every service of Todoku's own is confined, also those that only some settings start: an exposure of 2.5 or
# lower, as systemd-analyze(1) counts it (0: locked up, 10: open). On a booted machine: tests/world/booted_systemd.py.

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from todoku.host import desired
from todoku.host.daemons import gate
from todoku.host.facts import Facts, Version
from todoku.host.files import File
from todoku.settings import parse

WORST_EXPOSURE = 2.5
EVERYTHING = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[cloud]
compartment = "ocid1.compartment.oc1..aaaaaaaaexample"
[dns]
publisher = "oci"
[tls]
mode = "acme"
internal_name = "mx.hoge.internal"
[gate]
malware = "clamav"
[protect]
on = true
incoming_zip = "quarantine"
[metrics]
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "https://news.hoge.example"
privacy_ja = "同意した人にだけ送ります。"
privacy_en = "Only who agreed gets it."
"""
# What there is at most: a new service has to be added here, and so is looked at.
SERVICES = {
    *("todoku-gate", "todoku-agent", "todoku-relay", "todoku-check", "todoku-certificates", "todoku-way-out"),
    *("todoku-web", "todoku-quarantine", "todoku-campaign", "todoku-pages"),
}

needs_analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed here"
)


def units(*, code_is_open: bool = True) -> dict[str, str]:
    """Every unit that `todoku apply` writes where everything is switched on."""
    facts = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, "systemd")
    program = gate.Program(Path("/etc/todoku/todoku.toml"), code_is_open)
    wanted = desired.resources(parse(EVERYTHING, "todoku.toml"), facts, program=program)
    files = [each.file for each in wanted if isinstance(each, File)]
    return {
        Path(file.path).name: file.content
        for file in files
        if Path(file.path).parent == Path("/etc/systemd/system")
    }


def test_all_services_are_known_here() -> None:
    assert {name.removesuffix(".service") for name in units() if name.endswith(".service")} == SERVICES


def exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


@needs_analyze
@pytest.mark.parametrize("code_is_open", [True, False], ids=["code open", "code below root's home"])
@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_confined(name: str, code_is_open: bool, tmp_path: Path) -> None:
    unit = tmp_path / f"{name}.service"
    unit.write_text(units(code_is_open=code_is_open)[unit.name])
    assert exposure(unit) <= WORST_EXPOSURE


@needs_analyze
def test_a_service_that_is_not_would_be_found(tmp_path: Path) -> None:
    unit = tmp_path / "todoku-open.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(unit) > 9
