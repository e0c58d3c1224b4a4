# Promise: what is open to the world exists only where it is asked for, and can do nothing but its work.

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from todoku.host.daemons import gate, page
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import Directory, File
from todoku.host.services import Service
from todoku.host.stopped import Stopped
from todoku.plan.resource import LookFailed
from todoku.settings import Settings, parse

SETTINGS = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
ON = "[protect]\non = true\n"
PROGRAM = gate.Program(Path("/etc/todoku/todoku.toml"))


def settings(more: str = "") -> Settings:
    return parse(SETTINGS + more, "todoku.toml")


def facts(manager: ServiceManager | None = "systemd") -> Facts:
    return Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)


def unit(manager: ServiceManager, more: str = ON) -> list[str]:
    (file,) = (
        one for one in page.resources(settings(more), facts(manager), PROGRAM) if isinstance(one, File)
    )
    return file.file.content.splitlines()


@pytest.mark.parametrize(
    "more", ["", "[protect]\non = false\n", '[protect]\non = true\ndefault = "zip"\nsubject_words = false\n']
)
def test_without_links_there_is_no_page_and_nothing_more_for_the_gate_to_write(more: str) -> None:
    (stopped,) = page.resources(settings(more), facts(), PROGRAM)
    assert isinstance(stopped, Stopped)
    assert stopped.id == "service:todoku-web"
    assert page.resources(settings(more), facts(None), PROGRAM) == []
    assert page.folders(settings(more)) == ()


def test_it_gives_its_rights_up_and_sees_neither_mail_nor_secrets() -> None:
    lines = unit("systemd")
    assert "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_NET_BIND_SERVICE" in lines
    assert "ReadWritePaths=/var/lib/todoku/protect" in lines
    assert any(line.startswith("InaccessiblePaths=-/var/lib/todoku/mail ") for line in lines)
    assert "NoNewPrivileges=yes" in lines
    assert any("--user todoku-web" in line for line in lines)


def test_under_supervisord_too() -> None:
    assert "umask=007" in unit("supervisord")
    assert any(line.startswith("command=") and "todoku.web" in line for line in unit("supervisord"))


def test_it_listens_where_the_settings_say_and_a_new_certificate_cuts_no_download_off() -> None:
    wanted = page.resources(settings(ON + "page_port = 8443\n"), facts(), PROGRAM)
    (service,) = (one for one in wanted if isinstance(one, Service))
    assert service.daemon.ports == (8443,)
    assert "/etc/todoku/tls/self-signed.pem" not in service.configuration
    assert "certificate" not in service.follows
    assert "certificate" in service.after


def test_with_an_object_store_the_gate_and_the_page_get_its_credential_and_are_started_after_it() -> None:
    chosen = settings(
        f"{ON}[protect.store]\nendpoint = 'https://s.example'\nbucket = 'files'\nregion = 'r'\n"
    )
    wanted = page.resources(chosen, facts(), PROGRAM)
    services = [one for one in wanted if isinstance(one, Service)]
    gates = gate.resources(facts(), PROGRAM, page.folders(chosen), page.read_at_start(chosen))
    services += [one for one in gates if isinstance(one, Service)]
    assert {one.id for one in services} == {"service:todoku-web", "service:todoku-gate"}
    for service in services:
        assert "store-credential" in service.follows
        assert "/var/lib/todoku/protect/store-credential" in service.configuration
    assert {"store-credential", "object-store"} <= {one.id for one in wanted}


def test_the_gate_puts_files_there_and_the_page_hands_them_out() -> None:
    folders = [one for one in page.resources(settings(ON), facts(), PROGRAM) if isinstance(one, Directory)]
    assert {(folder.owner, folder.group, folder.mode) for folder in folders} == {
        ("todoku-gate", "todoku-web", 0o2770)
    }
    (file,) = (
        one for one in gate.resources(facts(), PROGRAM, page.folders(settings(ON))) if isinstance(one, File)
    )
    (writes,) = (line for line in file.file.content.splitlines() if line.startswith("ReadWritePaths="))
    assert writes.endswith(" /var/lib/todoku/protect")


def test_what_is_not_installed_is_said_before_anything_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(LookFailed, match=r"pip install 'todoku\[web\]'"):
        page.resources(settings(ON), facts(), PROGRAM)
