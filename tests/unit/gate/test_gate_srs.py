# A return address leads back to the sender it was made for, for three weeks, and nobody else can make one.

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.gate import srs

SECRET = b"s" * 64
NOW = 1_795_500_000.0
DAY = 86400


@pytest.mark.parametrize(
    "sender",
    ["dave@outside.example", "a=b+c@x.example", "SRS0=aaaa=bb=x.example=y@forwarder.example", "Dave@Out.Example"],
)  # fmt: skip
def test_it_leads_back(sender: str) -> None:
    made = srs.forward(sender, "hoge.example", SECRET, NOW)
    assert made.startswith("bounces+SRS0=")
    assert made.endswith("@hoge.example")
    assert srs.is_return_address(made)
    assert srs.reverse(made, SECRET, NOW + 20 * DAY) == sender
    assert srs.reverse(made.lower(), SECRET, NOW).lower() == sender.lower()


def test_after_three_weeks_it_does_not() -> None:
    made = srs.forward("dave@outside.example", "hoge.example", SECRET, NOW)
    assert srs.reverse(made, SECRET, NOW + 21 * DAY)
    with pytest.raises(srs.NotValid, match="21 days"):
        srs.reverse(made, SECRET, NOW + 22 * DAY)


@pytest.mark.parametrize("changed", ["dave", "outside.example", "SRS0=", "="])
def test_nobody_can_make_one(changed: str) -> None:
    made = srs.forward("dave@outside.example", "hoge.example", SECRET, NOW)
    forged = made.replace(changed, changed.replace("=", "==") if "=" in changed else f"x{changed}", 1)
    with pytest.raises(srs.NotValid):
        srs.reverse(forged, SECRET, NOW)
    with pytest.raises(srs.NotValid, match="not given out by us"):
        srs.reverse(made, b"t" * 64, NOW)


def test_the_null_sender_comes_back_to_the_postmaster_only() -> None:
    assert srs.forward("", "hoge.example", SECRET, NOW) == "bounces@hoge.example"
    assert not srs.is_return_address("bounces@hoge.example")


@pytest.mark.parametrize(
    "sender", ['"a b"@outside.example', "a b@outside.example", "a\n@x.example", "a@[192.0.2.1]"]
)
def test_what_needs_quotes_is_not_rewritten(sender: str) -> None:
    with pytest.raises(srs.CannotRewrite):
        srs.forward(sender, "hoge.example", SECRET, NOW)


@given(st.text())
def test_no_address_makes_it_fail_otherwise(address: str) -> None:
    with pytest.raises(srs.NotValid):
        srs.reverse(address, SECRET, NOW)


def _secret(path: Path) -> bytes:
    return srs.secret(path)


def test_all_processes_get_the_same_secret_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "srs-secret"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = set(pool.map(_secret, [path] * 16))
    assert len(found) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["srs-secret"]
    assert srs.secret(path) in found
