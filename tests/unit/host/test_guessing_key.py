# Only Dovecot and the agent know the key; where one of them has another, or others could read it, there is a new one.

from __future__ import annotations

import getpass
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host.guessing import AGENT_FILE, DOVECOT_FILE, GuessingKey


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    for path in (AGENT_FILE, DOVECOT_FILE):
        (tmp_path / path.lstrip("/")).parent.mkdir(parents=True)
    return FakeMachine(tmp_path)


KEY = GuessingKey(agent=getpass.getuser(), reason="")


def make(machine: FakeMachine) -> None:
    change = KEY.differ(KEY.look(machine))
    assert change is not None
    KEY.change(change, machine)


def test_a_key_is_made_once_and_is_the_same_for_both(machine: FakeMachine) -> None:
    make(machine)
    seen = KEY.look(machine)
    assert len(seen.dovecot) == 64
    assert seen.dovecot == seen.agent
    assert KEY.differ(seen) is None
    assert "auth_policy_hash_nonce = " in machine.text(DOVECOT_FILE)
    for path in (AGENT_FILE, DOVECOT_FILE):
        assert machine.real(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", [AGENT_FILE, DOVECOT_FILE])
def test_a_key_that_others_could_have_read_is_replaced(machine: FakeMachine, path: str) -> None:
    make(machine)
    before = KEY.look(machine).dovecot
    machine.real(path).chmod(0o644)
    make(machine)
    assert KEY.look(machine).dovecot != before


def test_it_is_in_no_plan(machine: FakeMachine) -> None:
    change = KEY.differ(KEY.look(machine))
    assert change is not None
    assert "not shown" in change.summary
    assert change.detail == ""
