"""A file that is not toml is a slip of the hand: the error shows the place and guesses the slip."""

from __future__ import annotations

import pytest

from todoku.settings import SettingsError, parse

SLIPS = {
    "a value without quotes": (
        "hostname = mx.hoge.example",
        1,
        'write it in quotes: hostname = "mx.hoge.example"',
    ),
    "an address without quotes": (
        "addresses = 203.0.113.10",
        1,
        'write it in quotes: addresses = "203.0.113.10"',
    ),
    "an IPv6 address without quotes": ("a = 2001:db8::1 # x", 1, 'write it in quotes: a = "2001:db8::1"'),
    "a size without quotes": ("a = 1\nquota = 25 MB", 2, 'write it in quotes: quota = "25 MB"'),
    "yes instead of true": ("a = Yes", 1, "write a = true"),
    "a colon": ('hostname: "mx.hoge.example"', 1, "write = instead of :"),
    "typographic quotes": ("hostname = “mx.hoge.example”", 1, 'write " instead of “ (U+201C)'),
    "a full-width equals sign": ('hostname ＝ "mx"', 1, "write = instead of ＝ (U+FF1D)"),
    "an ideographic space": ('hostname\u3000= "mx"', 1, "write a plain space instead of U+3000"),
    "Japanese brackets": ("［relay］", 1, "write [ instead of ［ (U+FF3B)"),
    "a quotation mark that is not closed": ('hostname = "mx\nb = 1', 1, "close the quotation mark"),
    "a bracket that is not closed": ('a = [\n"x",\n', 2, "close the quotation mark or bracket"),
    "a backslash": (r'file = "C:\mail"', 1, "or every backslash twice"),
    "a key twice": ("a = 1\na = 2", 2, "remove one of the two"),
    "a table twice": ("[domains]\n[domains]", 2, "write [[domains]] for each"),
    "no value": ("hostname =", 1, "write a value after hostname ="),
    "prose": ("this is my server", 1, "a line is key = value, [table] or # a comment"),
    "a number beyond every machine": ("a = " + "9" * 5000, None, "compare it with `todoku settings example`"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found_and_its_correction_guessed(slip: str) -> None:
    text, line, fix = SLIPS[slip]
    with pytest.raises(SettingsError) as caught:
        parse(text, "todoku.toml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("todoku.toml", line)
    assert fix in problem.fix
    assert line is None or "column" in problem.message


def test_a_deeply_nested_file_is_refused_and_not_a_crash() -> None:
    with pytest.raises(SettingsError, match="nested too deeply"):
        parse("a = " + "[" * 100_000 + "]" * 100_000, "todoku.toml")
