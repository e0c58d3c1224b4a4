"""Names of files by strangers, made into names that nothing takes for a path, a command or something else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 150  # characters; 450 bytes of UTF-8 at most for Japanese
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]')
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")


def safe(name: str, fallback: str = "attachment") -> str:
    """A file's name: no path, no control or direction marks (Unicode Cc, Cf, Cs), at most `LONGEST` characters, its
    ending kept."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    name = "".join(
        c for c in name if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    )
    name = _NOT_ON_WINDOWS.sub("_", name)
    name = " ".join(name.split()).strip(". ")
    if not name:
        return fallback
    if _DEVICES.match(name):
        name = f"_{name}"
    if len(name) > LONGEST:
        stem, dot, ending = name.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) <= 10 else ""
        name = name[: LONGEST - len(ending)].rstrip() + ending
    return name


def different(names: Iterable[str]) -> list[str]:
    """The names, each made different from those before it, as file systems that ignore case need it."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # where the search went on to: ten thousand files may have one name
    made: list[str] = []
    for name in names:
        stem, dot, ending = name.rpartition(".")
        if not stem:
            stem, dot, ending = name, "", ""
        candidate, number = name, numbers.get(name.casefold(), 1)
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem} ({number}){dot}{ending}"
        numbers[name.casefold()] = number
        taken.add(candidate.casefold())
        made.append(candidate)
    return made


def ending(name: str) -> str:
    """The ending, lower case, without the dot; empty when there is none."""
    stem, dot, last = name.rpartition(".")
    return last.lower() if dot and stem else ""
