"""The addresses to which bounces of bulk mail and reports about it come: made by one room, known by another.

    bounces+c=MARK@hoge.example       a bounce; MARK is sealed, and says which message it was (`campaign.tokens`)
    bounces+reports@hoge.example      complaints (RFC 5965) of providers that were given this address

"+" is Postfix's recipient delimiter, so they exist where bounces@ does.
"""

from __future__ import annotations

import re

from todoku.settings.campaign import Campaign

REPORTS = "reports"
_MARKED = re.compile(r"c=([a-z2-7]{39})", re.IGNORECASE)
LONGEST_LOCAL = 64 - len("+c=") - 39  # characters (RFC 5321 4.5.3.1.1)


def marked(wanted: Campaign, mark: str) -> str:
    """The return address with that mark."""
    local, _, domain = wanted.envelope_sender.rpartition("@")
    return f"{local}+c={mark}@{domain}"


def read(wanted: Campaign, address: str) -> str | None:
    """The mark of a return address, REPORTS, or None for any other address."""
    local, _, domain = address.lower().rpartition("@")
    ours, _, our_domain = wanted.envelope_sender.lower().rpartition("@")
    if domain != our_domain or not local.startswith(f"{ours}+"):
        return None
    extension = local.removeprefix(f"{ours}+")
    if extension == REPORTS:
        return REPORTS
    found = _MARKED.fullmatch(extension)
    return None if found is None else found[1]
