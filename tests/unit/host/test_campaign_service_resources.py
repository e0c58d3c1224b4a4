# Bulk mail is sent by a process that has the relay's password, and asked about by one that the world reaches: neither
# can do more than that, and without [campaign] there is neither.

from __future__ import annotations

from typing import Any

import pytest

from todoku.host.daemons import campaign, gate
from todoku.host.facts import Facts, Version
from todoku.host.files import Directory, File
from todoku.host.services import Service
from todoku.settings import Settings

FACTS = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, "systemd")
BULK = {"sender": "news@hoge.example", "sender_name": "Hoge", "url": "https://news.hoge.example"}


def settings(**more: Any) -> Settings:
    return Settings.model_validate(
        {
            "hostname": "mx.hoge.example",
            "addresses": "203.0.113.10",
            "postmaster": "alice@hoge.example",
            "domains": [{"name": "hoge.example"}],
            "relay": {"region": "ap-tokyo-1"},
            **more,
        }
    )


def wanted(**more: Any) -> list[Any]:
    return campaign.resources(settings(**more), FACTS, gate.Program())


def test_without_the_table_there_is_nothing_and_nothing_runs_on() -> None:
    assert [(type(each).__name__, each.id) for each in wanted()] == [
        ("Stopped", "service:todoku-campaign"),
        ("Stopped", "service:todoku-pages"),
        ("PasswordCopy", "database-password:todoku-campaign"),  # none: one of earlier is removed
    ]


def test_the_sender_and_the_pages_are_services_of_their_own() -> None:
    resources = wanted(campaign=BULK)
    services = {each.daemon.name: each for each in resources if isinstance(each, Service)}
    assert set(services) == {"todoku-campaign", "todoku-pages"}
    assert "relay-credential" in services["todoku-campaign"].after
    assert "relay-credential" not in services["todoku-pages"].after
    folders = [each for each in resources if isinstance(each, Directory)]
    assert [(each.path, each.mode, each.owner, each.group) for each in folders] == [
        ("/var/lib/todoku/campaign", 0o750, "todoku-campaign", "todoku-campaign"),
        ("/var/lib/todoku/returned", 0o2770, "todoku-gate", "todoku-campaign"),
        ("/var/lib/todoku/bulk-left", 0o2750, "todoku-campaign", "todoku-agent"),
    ]
    assert "folder:/var/lib/todoku/returned" in services["todoku-campaign"].after
    assert "folder:/var/lib/todoku/bulk-left" in services["todoku-campaign"].after


def test_their_units_leave_them_the_right_to_become_somebody_else_and_to_read() -> None:
    units = [each.file.content for each in wanted(campaign=BULK) if isinstance(each, File)]
    assert len(units) == 2
    for unit in units:
        assert "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH\n" in unit
        assert "\nUser=" not in unit  # systemd 257 takes CAP_SETUID from User=root
        assert "ProtectSystem=strict" in unit
        assert "--user" in unit and "todoku-campaign" in unit
    sender, pages = sorted(units, key=lambda unit: "todoku.web" in unit)
    assert "/var/lib/todoku/gate" in sender and "/var/lib/todoku/alarms" in sender
    assert "/var/lib/todoku/bulk-left" in sender and "/var/lib/todoku/bulk-left" not in pages
    assert "/var/lib/todoku/returned" in sender and "/var/lib/todoku/returned" not in pages
    assert "/var/lib/todoku/gate" not in pages and "/var/lib/todoku/alarms" not in pages


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("url", "http://news.hoge.example", "no https address"),
        ("sender", "news@elsewhere.example", "not within one of the domains"),
        ("return_address", "b@elsewhere.example", "not within one of the domains"),
        ("sender_name", "Hoge\r\nBcc: eve@evil.example", "not a name"),
        ("quiet_hours", "25:00-08:00", "not two times of a day"),
        ("time_zone", "Asia/Nowhere", "no time zone"),
    ],
)
def test_what_is_wrong_in_the_table_is_said(key: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(campaign={**BULK, key: value})
