"""What to say when a file is not toml at all: the place, and a guess at the slip behind it."""

from __future__ import annotations

import re

from todoku.settings.literals import literal
from todoku.settings.problems import Problem

_PLACE = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
_PAIR = re.compile(r"^[ \t]*([A-Za-z0-9_.\"'-]+)[ \t]*=[ \t]*(.*?)[ \t]*$")
_COLON = re.compile(r"^\s*[A-Za-z0-9_-]+\s*:\s*\S")
_TWICE = re.compile(r"Cannot declare \('([^']+)',?")
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s\"']*@")
_WIDE = {
    **dict.fromkeys("“”„‟«»＂「」", '"'),
    **dict.fromkeys("‘’＇", "'"),
    "＝": "=",
    "［": "[",
    "］": "]",
    "，": ",",
    "、": ",",
    "＃": "#",
    **dict.fromkeys("\u3000\u00a0\u200b\u2003", " "),
}


def problem(text: str, file: str, error: Exception) -> Problem:
    """The problem behind an exception of `tomllib.loads(text)`."""
    if isinstance(error, RecursionError):
        return Problem(file, None, "", "is nested too deeply", "compare it with `todoku settings example`")
    place = _PLACE.match(str(error))
    if not place:
        return Problem(
            file, None, "", f"is not valid toml: {error}", "compare it with `todoku settings example`"
        )
    lines = text.replace("\r\n", "\n").split("\n")
    if place[2] is None:
        while len(lines) > 1 and not lines[-1].strip():
            lines.pop()
        number, column = len(lines), len(lines[-1]) + 1
    else:
        number, column = int(place[2]), int(place[3])
    line = lines[number - 1] if number <= len(lines) else ""
    return Problem(
        file,
        number,
        "",
        f"column {column}: not valid toml: {place[1]}",
        _USER_AND_PASSWORD.sub("...@", _guess(line, place[1], column, place[2] is None)),
    )


def _guess(line: str, message: str, column: int, at_end: bool) -> str:
    wide = next((character for character in line.partition("#")[0] if character in _WIDE), None)
    if twice := _TWICE.search(message):
        return f"write the table only once; if there are several of them, write [[{twice[1]}]] for each"
    if "overwrite" in message or "twice" in message or "Duplicate" in message:
        return "remove one of the two: a key can be there only once"
    pair = _PAIR.match(line)
    if wide and not (pair and pair[2][:1] in ('"', "'")):
        return f"write {_WIDE[wide].replace(' ', 'a plain space')} instead of {_named(wide)}"
    if _COLON.match(line) and not pair:
        return "write = instead of :"
    if "scape" in message:
        return "write the text in 'single quotes', or every backslash twice"
    if pair and not pair[2]:
        return f"write a value after {pair[1]} ="
    if at_end or "Unterminated" in message or "Illegal character '\\n'" in message or "Unclosed" in message:
        return "close the quotation mark or bracket that was opened here or on a line before"
    if pair and pair[2] and pair[2][0] not in "\"'[{":
        if pair[2].lower() in ("true", "false", "yes", "no", "on", "off"):
            return f"write {pair[1]} = {'true' if pair[2].lower() in ('true', 'yes', 'on') else 'false'}"
        return f"write it in quotes: {pair[1]} = {literal(pair[2].partition(' #')[0].rstrip())}"
    return (
        f'look at "{line[max(column - 1, 0) :][:30].strip()}": a line is key = value, [table] or # a comment'
    )


def _named(character: str) -> str:
    return f"{character} (U+{ord(character):04X})" if character.isprintable() else f"U+{ord(character):04X}"
