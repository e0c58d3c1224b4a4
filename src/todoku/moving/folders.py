"""Which folder here a folder there becomes. Pure.

By its special use (RFC 6154) where it has one, else by its name, whose separators become ours. "INBOX." before every
name, as some servers have it, is dropped. What shows messages of other folders again, as Gmail's "All Mail", is left
out.
"""

from __future__ import annotations

from collections.abc import Sequence

_OWN = {"\\sent": "Sent", "\\drafts": "Drafts", "\\junk": "Junk", "\\trash": "Trash", "\\archive": "Archive"}
_TWICE = frozenset({"\\all", "\\flagged", "\\important"})
_NOT_THERE = frozenset({"\\noselect", "\\nonexistent"})
_LONGEST = 200  # characters of a name


def target(name: str, separator: str, flags: Sequence[str], ours: str) -> str | None:
    """The folder here, with `ours` as separator; None: nothing is copied from it."""
    uses = {flag.lower() for flag in flags}
    if uses & (_TWICE | _NOT_THERE):
        return None
    if name.upper() == "INBOX":
        return "INBOX"
    for use, own in _OWN.items():
        if use in uses:
            return own
    parts = [part for part in (name.split(separator) if separator else [name]) if part]
    if len(parts) > 1 and parts[0].upper() == "INBOX":
        parts = parts[1:]
    # Dovecot takes neither its separators nor ~ and / in a name.
    clean = [
        "".join("_" if c in f"{ours}/~" or ord(c) < 32 else c for c in part).strip() or "_" for part in parts
    ]
    if len(clean) == 1 and clean[0].upper() == "INBOX":
        return "INBOX_"
    return ours.join(clean)[:_LONGEST] or "_"
