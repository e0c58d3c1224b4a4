# The same record is written in different ways by everyone who handles it; a difference that is none would be
# "changed" at every apply.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.dns import text

LONG = "v=DKIM1; k=rsa; p=" + "A" * 400


@pytest.mark.parametrize(
    ("type_", "written", "value"),
    [
        ("MX", "10 MX.Hoge.example.", "10 mx.hoge.example"),
        ("CNAME", "Target.example.", "target.example"),
        ("AAAA", "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("TXT", '"v=spf1 -all"', "v=spf1 -all"),
        ("TXT", "v=spf1 -all", "v=spf1 -all"),
        ("TXT", '"one " "two"', "one two"),
        ("TXT", 'one " "two', "one two"),  # with the outermost quotes cut off
        ("TXT", '"a \\"b\\" \\059 c"', 'a "b" ; c'),
    ],
)
def test_one_value_has_one_form_inside(type_: str, written: str, value: str) -> None:
    assert text.plain(type_, written) == value


def test_a_long_text_is_cut_into_strings_and_joined_again() -> None:
    shown = text.presentation("TXT", LONG)
    assert shown.count('"') == 4
    assert max(len(part) for part in text.chunks(LONG)) == 255
    assert text.plain("TXT", shown) == LONG


@given(st.binary(max_size=600))
def test_any_bytes_come_back_from_presentation_format(data: bytes) -> None:
    value = text.decoded(data)
    assert text.encoded(text.plain("TXT", text.presentation("TXT", value))) == data


@given(st.text(max_size=100), st.sampled_from(["TXT", "MX", "CNAME", "A"]))
def test_no_text_from_a_provider_is_an_error(written: str, type_: str) -> None:
    text.plain(type_, written)


def test_a_name_is_relative_to_its_zone_only_at_a_dot() -> None:
    assert text.relative("hoge.example", "hoge.example") == "@"
    assert text.relative("mx.hoge.example", "hoge.example") == "mx"
    assert text.relative("mxhoge.example", "hoge.example") == "mxhoge.example."
