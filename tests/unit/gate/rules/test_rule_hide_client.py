# Whoever receives a message learns neither the program nor the address of who wrote it.

from __future__ import annotations

from pathlib import Path

import pytest
from outbound_mail import ALICE, Site, changed, eml

from todoku.gate import changes
from todoku.gate.decision import PASS
from todoku.gate.rules.hide_client import hide_client
from todoku.settings.telling import TELLING


@pytest.mark.parametrize("name", TELLING)
def test_what_tells_is_removed(site: Site, name: str) -> None:
    message = site.message(
        eml(f"From: {ALICE}", f"{name}: [10.0.0.7]", "X-Other: stays", f"{name.upper()}: again")
    )
    for modification in changed(hide_client(message)):
        changes.apply(modification, message)  # type: ignore[arg-type]
    assert [header.name for header in message.headers] == ["From", "X-Other"]


def test_other_headers_are_left_alone(site: Site) -> None:
    assert hide_client(site.message(eml(f"From: {ALICE}", "X-Priority: 1", "MIME-Version: 1.0"))) is PASS


def test_the_setting_turns_it_off(tmp_path: Path) -> None:
    site = Site(tmp_path, "[gate]\nhide_client = false")
    assert hide_client(site.message(eml("User-Agent: Thunderbird"))) is PASS


def test_mail_from_outside_keeps_what_it_tells(site: Site) -> None:
    assert hide_client(site.from_outside(eml("User-Agent: Thunderbird"))) is PASS
