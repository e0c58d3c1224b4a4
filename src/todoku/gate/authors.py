"""Who a header From names, read leniently: what strangers write is understood as far as anybody could understand it.

For what our own people send, `addresses` reads the same header strictly.
"""

from __future__ import annotations

import email.errors
import email.policy
import logging
import re
from email.utils import parseaddr
from typing import Any, NamedTuple

log = logging.getLogger("todoku.gate")

# What looks like an address is one, however the standard library's parser takes the rest of the header.
_ADDRESS = re.compile(r"[^\s<>@,;:\"()\[\]]+@((?:[^\s<>@,;:\"()\[\].]+\.)*[^\s<>@,;:\"()\[\].]+)")


class Author(NamedTuple):
    """`name`: the display name, may be empty."""

    name: str
    address: str


def authors(value: str) -> list[Author]:
    """Those whom the (unfolded) value of a From names; where it is malformed, whatever in it looks like an address."""
    found: list[Author] = []
    try:
        header: Any = email.policy.SMTP.header_factory("From", value)
        found = [
            # the older form, address (Name), is understood by the older parser only
            Author(str(each.display_name or parseaddr(value)[0]), str(each.addr_spec))
            for each in header.addresses
            if each.domain
        ]
        if found and not any(isinstance(d, email.errors.InvalidHeaderDefect) for d in header.defects):
            return found
    except Exception as problem:  # the standard library's parser fails in many ways on hostile fields
        log.info("From is read without the email package, which failed on it: %r", problem)
    return found + [Author("", match[0]) for match in _ADDRESS.finditer(value)]
