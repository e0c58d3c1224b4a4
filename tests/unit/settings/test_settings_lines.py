"""An error without a line makes people search: every key of a toml file is found where it stands."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.settings.lines import Lines
from todoku.settings.literals import key_literal, literal

DOCUMENT = '''\
# first
hostname = "mx" # [relay]
"quoted key" = 1
a.b . "c.d" = 2
addresses = [
  "one", # a comment ]
  "two",
]
text = """
[not.a.table]
key = "no" ""\\""""
raw = \'\'\'it''s
[x]\'\'\'
date = 1979-05-27 07:32:00

[[domains]]
name = "a"
[domains.dmarc]
policy = "none"

[[domains]]
name = "b"
dmarc = { policy = "none", reports = "x" }
[[domains.hosts]]
n = 1
[[domains.hosts]]
n = 2

[relay.plan]
per_day = 1
[relay]
region = "r"
lists = [[1, 2], [3,
 { x = 4 }]]
'''


def test_every_kind_of_key_is_found_on_its_line() -> None:
    tomllib.loads(DOCUMENT)
    lines = Lines(DOCUMENT)
    for path, line in {
        ("hostname",): 2,
        ("quoted key",): 3,
        ("a", "b", "c.d"): 4,
        ("a",): 4,
        ("addresses",): 5,
        ("addresses", 0): 6,
        ("addresses", 1): 7,
        ("text",): 9,
        ("raw",): 12,
        ("date",): 14,
        ("domains",): 16,
        ("domains", 0): 16,
        ("domains", 0, "name"): 17,
        ("domains", 0, "dmarc"): 18,
        ("domains", 0, "dmarc", "policy"): 19,
        ("domains", 1): 21,
        ("domains", 1, "name"): 22,
        ("domains", 1, "dmarc", "reports"): 23,
        ("domains", 1, "hosts", 0, "n"): 25,
        ("domains", 1, "hosts", 1, "n"): 27,
        ("relay",): 31,
        ("relay", "plan", "per_day"): 30,
        ("relay", "region"): 32,
        ("relay", "lists", 1, 0): 33,
        ("relay", "lists", 1, 1, "x"): 34,
    }.items():
        assert lines.find(path) == line, path


def test_a_missing_key_is_put_on_the_line_of_its_table() -> None:
    lines = Lines(DOCUMENT)
    assert lines.find(("domains", 0, "dmarc", "reports")) == 18
    assert lines.find(("domains", 1, "nothing", "here")) == 21
    assert lines.find(("nothing",)) is None


def test_windows_line_ends_count_once() -> None:
    assert Lines("a = 1\r\n\r\n[b]\r\nc = '''\r\n'''\r\nd = 2\r\n").find(("b", "d")) == 6


_KEYS = st.text(min_size=1, max_size=8)
_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=5))
@settings(deadline=None)
def test_whatever_the_values_before_it_a_key_is_found(document: dict[str, object]) -> None:
    text, expected = "", {}
    for key, value in document.items():
        expected[key] = text.count("\n") + 1
        text += f"{key_literal(key)} = {literal(value)}\n"
    assert tomllib.loads(text) == document  # so `literal` is right as well
    lines = Lines(text)
    assert {key: lines.find((key,)) for key in document} == expected
