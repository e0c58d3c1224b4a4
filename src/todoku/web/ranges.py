"""Part of a file, as a browser asks for it that goes on with a download (RFC 9110 14.1)."""

from __future__ import annotations

import re

_ONE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


class NotSatisfiable(Exception):
    """It asks for what is behind the end."""


def asked(header: str | None, size: int) -> tuple[int, int] | None:
    """From where to before where; None for the whole: no range, several, or one that cannot be read (14.2 allows that).
    Raises NotSatisfiable."""
    found = _ONE.fullmatch(header or "")
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:  # the last so many
        length = int(found[2])
        if not length or not size:
            raise NotSatisfiable
        return max(0, size - length), size
    start = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < start:
        return None
    if start >= size:
        raise NotSatisfiable
    return start, end
