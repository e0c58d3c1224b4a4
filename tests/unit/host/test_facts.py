# Promise: the versions that are there decide, and where Debian's tools are missing, that is said.

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host.facts import Version, gather
from todoku.plan.resource import LookFailed

OS_RELEASE = (
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n'
)


def machine(tmp_path: Path, **answers: tuple[int, str, str]) -> FakeMachine:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(OS_RELEASE)
    table = {"dpkg_query": (1, "", "no packages found"), "apt_get": (0, "", ""), **answers}
    return FakeMachine(tmp_path, {name.replace("_", "-"): [answer] for name, answer in table.items()})


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.7.11-0+deb12u1", Version(3, 7, 11)),
        ("1:2.3.19.1+dfsg1-2.1+deb12u6", Version(2, 3, 19)),
        ("1:2.4.1+dfsg1-6+deb13u7", Version(2, 4, 1)),
        ("3.10.13-0+deb13u1", Version(3, 10, 13)),
        ("2.4~rc1", Version(2, 4, 0)),
    ],
)
def test_a_package_version_is_read(text: str, version: Version) -> None:
    assert Version.parse(text) == version


def test_versions_are_compared_as_numbers() -> None:
    assert Version(3, 10) > Version(3, 9, 99)
    with pytest.raises(ValueError, match="not a package version"):
        Version.parse("none")


def test_what_is_installed_counts(tmp_path: Path) -> None:
    facts = gather(
        machine(tmp_path, dpkg_query=(0, "3.7.11-0+deb12u1", ""), postconf=(0, "a = 1\nb =\n", ""))
    )
    assert (facts.os_id, facts.os_version, facts.codename) == ("debian", "12", "bookworm")
    assert facts.postfix == Version(3, 7, 11)
    assert facts.postfix_parameters == {"a", "b"}


def test_before_the_installation_the_candidate_counts(tmp_path: Path) -> None:
    policy = "postfix:\n  Installed: (none)\n  Candidate: 3.10.5-1\n  Version table:\n"
    facts = gather(machine(tmp_path, apt_cache=(0, policy, "")))
    assert facts.postfix == Version(3, 10, 5)
    assert facts.postfix_parameters is None


def test_without_lists_the_release_says_enough_for_a_plan(tmp_path: Path) -> None:
    facts = gather(machine(tmp_path, apt_cache=(0, "", "")))
    assert facts.postfix == Version(3, 7, 11)
    assert facts.dovecot == Version(2, 3, 19)


def test_the_service_manager_is_the_one_that_answers(tmp_path: Path) -> None:
    host = machine(tmp_path)
    assert gather(host).service_manager is None
    host.real("/run").mkdir()
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(host.real("/run/supervisor.sock")))
    assert gather(host).service_manager is None  # the socket of one that has ended
    host.real("/run/systemd/system").mkdir(parents=True)
    assert gather(host).service_manager == "systemd"


def test_another_distribution_is_told_what_is_needed(tmp_path: Path) -> None:
    host = FakeMachine(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('PRETTY_NAME="Fedora Linux 43"\n')
    with pytest.raises(LookFailed, match=r"Debian or Ubuntu is needed .* but this is Fedora Linux 43"):
        gather(host)
