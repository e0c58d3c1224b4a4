"""Values as toml writes them, for the examples in errors and in the example file."""

from __future__ import annotations

import re
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def literal(value: Any) -> str:
    """`value` (text, number, true or false, list, dictionary) in the notation of toml."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(member) for member in value) + "]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{key_literal(key)} = {literal(member)}" for key, member in value.items())
        return "{ " + pairs + " }" if pairs else "{}"
    return _quoted(str(value))


def key_literal(key: str) -> str:
    """A key, in quotes only where it needs them."""
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    return (
        '"'
        + "".join(
            _ESCAPES.get(c) or (c if ord(c) >= 32 and c != "\x7f" else f"\\u{ord(c):04x}") for c in text
        )
        + '"'
    )
