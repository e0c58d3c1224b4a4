# Two readers of one From header must never see two different senders.

from __future__ import annotations

import time
from email import policy

from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.gate.addresses import Malformed, addresses

ATOMS = ("alice", "bob", "hoge.example", "=?utf-8?q?bob?=", "[192.0.2.1]", "alice@hoge.example")
WHOLE = ("<bob@hoge.example>", '"A, B"', "(c)")
PIECES = st.sampled_from([*ATOMS, *WHOLE, *'@<>,:;"\\(). \t'])
JUNK = st.lists(PIECES, max_size=8).map("".join)
VALUES = JUNK | st.tuples(JUNK, st.sampled_from(["<alice@hoge.example>", "alice@hoge.example"]), JUNK).map(
    "".join
)


@given(st.binary(max_size=200))
def test_any_bytes_are_addresses_or_malformed_and_nothing_else(raw: bytes) -> None:
    _read(raw.decode("utf-8", "surrogateescape"))


@settings(max_examples=500)
@given(VALUES)
def test_what_is_accepted_the_email_package_reads_in_the_same_way(value: str) -> None:
    found = _read(value)
    # An address in the place of the name, and equal to the address, is read by us alone.
    if not found or value.lower().count(found[0].lower()) > len(found):
        return
    try:
        theirs = policy.default.header_factory("From", value)
    except (AttributeError, IndexError, TypeError, ValueError):  # bugs of its own: "alice.<bob@hoge.example>"
        return
    assert [each.addr_spec for each in theirs.addresses] == found


@given(VALUES)
def test_an_accepted_address_stands_in_the_header_literally(value: str) -> None:
    plain = "".join(value.split())
    for address in _read(value):
        assert "".join(address.split()) in plain or "(" in value


def test_a_header_of_100_kb_is_read_in_linear_time() -> None:
    for nasty in (
        '"',
        "(",
        "<",
        "a@",
        "a.",
        " ",
        "\\",
        "(" * 50 + ")" * 50,
        '"\\',
        "a ",
        "=?",
        "-",
        "\t@\t",
        ",",
    ):
        began = time.process_time()
        _read(nasty * (100_000 // len(nasty)))
        _read("<" + nasty * (100_000 // len(nasty)) + ">")
        assert time.process_time() - began < 5, nasty  # milliseconds; minutes where it is no longer linear


def _read(value: str) -> list[str]:
    try:
        return addresses(value)
    except Malformed as error:
        assert str(error)
        return []
