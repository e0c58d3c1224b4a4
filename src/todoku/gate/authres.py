"""The Authentication-Results header (RFC 8601): written in our name, and found when somebody else wrote it so."""

from __future__ import annotations

import re

from todoku.gate.authentication import Found
from todoku.gate.message import HeaderField

NAME = "Authentication-Results"
_COMMENT = re.compile(r"\s*\((?:[^()\\]|\\.)*\)\s*")
_ID = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s;()"]+)')
_VALUE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]+")


def write(hostname: str, sender: str, helo: str, found: Found) -> str:
    """The header's value, one result a line."""
    who = f"smtp.mailfrom={_safe(sender)}" if sender else f"smtp.helo={_safe(helo)}"
    results = [f"spf={found.spf.result} {who}"]
    results += [
        f"dkim={each.result} header.d={_safe(each.domain)} header.s={_safe(each.selector)}"
        + (f' header.b="{each.beginning}"' if re.fullmatch(r"[A-Za-z0-9+/=]+", each.beginning) else "")
        for each in found.dkim
    ] or ["dkim=none"]
    for author in found.authors:
        policy = f" (p={author.policy})" if author.policy else ""
        results.append(f"dmarc={author.result}{policy} header.from={_safe(author.domain)}")
    if not found.authors:
        results.append("dmarc=permerror")
    return " " + ";\r\n\t".join([hostname, *results])


def _safe(text: str) -> str:
    return text if _VALUE.fullmatch(text) else "unreadable"


def claims(header: HeaderField, hostname: str) -> bool:
    """Whether the header says, or might be taken to say, that `hostname` wrote it."""
    if header.name.lower() != NAME.lower():
        return False
    text = header.text
    while comment := _COMMENT.match(text):
        text = text[comment.end() :]
    found = _ID.match(text.lstrip())
    if not found:
        return True  # nobody can tell whose it is: RFC 8601 5
    name = re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
    return name.strip().rstrip(".").lower() == hostname.lower()
