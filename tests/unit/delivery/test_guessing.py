# Complaint: "They try passwords from a thousand addresses, and if you lock the account, they have locked me out." Both
# are counted; and where somebody has logged in before, strangers' guesses do not count.

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.delivery import guessing
from todoku.delivery.guessing import LIMITS, Guesses
from todoku.delivery.guessing_server import HEADER, Server

ALICE, OFFICE, STRANGER = "alice@hoge.example", "192.0.2.10", "198.51.100.66"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(clock=clock)


def wrong(guesses: Guesses, times: int, remote: str = STRANGER, login: str = ALICE, start: int = 0) -> None:
    for number in range(start, start + times):
        guesses.report(login, remote, f"{number:03x}", success=False)


def test_an_account_is_locked_also_for_guesses_from_many_addresses(guesses: Guesses, clock: Clock) -> None:
    for number in range(LIMITS["account"].most):
        assert guesses.allow(ALICE, f"198.51.100.{number}").allowed
        wrong(guesses, 1, f"198.51.100.{number}", start=number)
    refused = guesses.allow(ALICE, "203.0.113.200")
    assert not refused.allowed
    assert "account" in refused.why
    clock.now += LIMITS["account"].lock + 1
    assert guesses.allow(ALICE, "203.0.113.200").allowed


def test_an_address_is_locked_for_all_accounts(guesses: Guesses) -> None:
    for number in range(LIMITS["address"].most):
        wrong(guesses, 1, login=f"user{number}@hoge.example")
    assert not guesses.allow("bob@hoge.example", STRANGER).allowed
    assert guesses.allow("bob@hoge.example", OFFICE).allowed


def test_who_has_logged_in_from_there_before_is_not_locked_out_by_others(guesses: Guesses) -> None:
    guesses.report(ALICE, OFFICE, "right", success=True)
    wrong(guesses, 500)
    # Not even by somebody behind the same address who tries everybody's.
    wrong(guesses, 500, OFFICE, login="bob@hoge.example")
    assert guesses.allow(ALICE, OFFICE).allowed
    assert not guesses.allow(ALICE, STRANGER).allowed
    assert not guesses.allow("bob@hoge.example", OFFICE).allowed


def test_guessing_from_where_the_account_is_at_home_is_slowed_down_too(
    guesses: Guesses, clock: Clock
) -> None:
    guesses.report(ALICE, OFFICE, "right", success=True)
    wrong(guesses, LIMITS["at home"].most, OFFICE)
    assert not guesses.allow(ALICE, OFFICE).allowed
    clock.now += LIMITS["at home"].lock + 1
    assert guesses.allow(ALICE, OFFICE).allowed


def test_a_telephone_with_its_old_password_has_guessed_once(guesses: Guesses) -> None:
    for _ in range(1000):
        guesses.report(ALICE, STRANGER, "old", success=False)
    assert guesses.allow(ALICE, STRANGER).allowed


def test_wrong_passwords_of_yesterday_do_not_count(guesses: Guesses, clock: Clock) -> None:
    wrong(guesses, LIMITS["account"].most - 1)
    clock.now += guessing.WINDOW + 1
    wrong(guesses, 1, start=100)
    assert guesses.allow(ALICE, STRANGER).allowed


def test_ipv6_addresses_of_one_network_are_one_and_this_machine_is_none(guesses: Guesses) -> None:
    for number in range(LIMITS["account"].most):
        wrong(guesses, 1, f"2001:db8:5:6::{number + 1:x}", login=f"user{number}@hoge.example")
        wrong(guesses, 1, f"2001:db8:5:6::{number + 1:x}", login=f"other{number}@hoge.example")
    assert not guesses.allow("bob@hoge.example", "2001:db8:5:6:ffff::1").allowed
    assert guesses.allow("bob@hoge.example", "2001:db8:5:7::1").allowed
    wrong(guesses, 500, "127.0.0.1")
    assert guesses.allow(ALICE, "127.0.0.1").allowed
    assert guesses.allow(ALICE, "").allowed


def test_who_is_known_is_known_after_a_restart_and_a_damaged_file_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    before = Guesses(file)
    before.report(ALICE, OFFICE, "right", success=True)
    before.save()
    assert file.stat().st_mode & 0o777 == 0o600
    after = Guesses(file)
    wrong(after, 100)
    assert after.allow(ALICE, OFFICE).allowed
    file.write_text('[["half a')
    assert Guesses(file).allow(ALICE, OFFICE).allowed


def test_memory_has_an_end(guesses: Guesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_MOST_KEYS", 50)
    for number in range(500):
        wrong(guesses, 1, f"10.0.{number // 250}.{number % 250}", login=f"user{number}")
        guesses.report(f"user{number}", OFFICE, "right", success=True)
    assert max(len(guesses._wrong), len(guesses._known), len(guesses._locked)) <= 50


# --- the server that Dovecot asks ---------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(Guesses(), "the key", ("127.0.0.1", 0))
    server.start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server: Server, command: str, body: bytes, key: str = "the key") -> tuple[int, dict[str, object]]:
    url = f"http://127.0.0.1:{server.server_address[1]}/?command={command}"
    request = urllib.request.Request(url, data=body, headers={HEADER: key})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def report(success: bool, number: int = 0) -> bytes:
    said = {
        "login": ALICE,
        "remote": STRANGER,
        "pwhash": f"{number:x}",
        "success": success,
        "policy_reject": False,
    }
    return json.dumps(said).encode()


def test_dovecot_is_told_no_after_too_many(server: Server) -> None:
    asked = json.dumps({"login": ALICE, "remote": STRANGER, "pwhash": "1"}).encode()
    assert ask(server, "allow", asked) == (200, {"status": 0, "msg": ""})
    for number in range(LIMITS["account"].most):
        assert ask(server, "report", report(False, number))[0] == 200
    assert ask(server, "allow", asked)[1]["status"] == -1


def test_what_was_refused_unseen_does_not_prolong_the_lock(server: Server) -> None:
    for number in range(LIMITS["account"].most):
        ask(
            server,
            "report",
            report(False, number).replace(b'"policy_reject": false', b'"policy_reject": true'),
        )
    assert server.guesses.allow(ALICE, STRANGER).allowed


def test_who_does_not_know_the_key_cannot_lock_anybody_out(server: Server) -> None:
    for number in range(LIMITS["account"].most):
        assert ask(server, "report", report(False, number), key="guessed")[0] == 403
    assert server.guesses.allow(ALICE, STRANGER).allowed


@settings(deadline=None, max_examples=50)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(st.none() | st.text() | st.floats(), st.lists).map(lambda v: json.dumps(v).encode()),
    )
)
def test_nonsense_is_refused_and_the_next_question_answered(body: bytes) -> None:
    assert ask(_fuzzed(), "report", body)[0] == 400
    assert ask(_fuzzed(), "allow", report(False))[0] == 200


@cache
def _fuzzed() -> Server:
    server = Server(Guesses(), "the key", ("127.0.0.1", 0))
    server.start()
    return server
