"""Domain names in mixed scripts (row 32): "\u0440aypal" with a Cyrillic letter is what nobody can tell apart by eye.

Gmail asks that internationalised names keep to the level "highly restrictive" of UTS #39 5.2: one script for each
label, or Latin beside what Chinese, Japanese and Korean are written in.
"""

from __future__ import annotations

import unicodedata

import idna

_TOGETHER = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
# Signs that belong to several scripts (the Unicode property "Common" or "Inherited").
_ANYBODYS = frozenset(
    {"DIGIT", "HYPHEN-MINUS", "KATAKANA-HIRAGANA", "COMBINING", "MIDDLE", "IDEOGRAPHIC", "VARIATION"}
)


def mixed(domain: str) -> str:
    """The first label that mixes scripts, and which they are; empty where none does, or it is no name at all."""
    for label in domain.split("."):
        shown = _unicode(label)
        scripts = {unicodedata.name(char, "?").split(" ")[0] for char in shown} - _ANYBODYS
        if len(scripts) > 1 and not any(scripts <= allowed for allowed in _TOGETHER):
            return f'"{shown}" mixes {" and ".join(sorted(name.capitalize() for name in scripts))}'
    return ""


def is_international(domain: str) -> bool:
    return not domain.isascii() or any(label.startswith("xn--") for label in domain.split("."))


def _unicode(label: str) -> str:
    try:
        return idna.decode(label) if label.startswith("xn--") else label
    except idna.IDNAError:
        return label
