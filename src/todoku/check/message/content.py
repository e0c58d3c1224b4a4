"""What is hidden in the text, and links that lead elsewhere than they say: the content's part of row 21."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from urllib.parse import urlsplit

from todoku.check.finding import Finding, passed, warned

_INVISIBLE = re.compile(
    r"display\s{0,5}:\s{0,5}none|visibility\s{0,5}:\s{0,5}hidden|font-size\s{0,5}:\s{0,5}0(?![.\d]|\s{0,3}[1-9])|"
    r"opacity\s{0,5}:\s{0,5}0(?![.\d])",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"^\s*(?:https?://)?((?:[a-z0-9-]{1,63}\.){1,10}[a-z]{2,24})(?:[/:?#]\S*)?\s*$", re.IGNORECASE
)
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)
_PREHEADER = 250  # characters: a hidden preview text is what nearly all mailings have, and shows in the inbox
_DEEPEST = 500
_MOST_READ = 256 * 1024  # characters; Gmail itself shows 102 KB and cuts the rest


class _Page(HTMLParser):
    """Collects hidden text, and what links show and where they lead. Any markup; never fails."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.hidden = 0  # characters
        self.deceiving: list[tuple[str, str]] = []  # what is shown, where it leads
        self._open: list[tuple[str, bool]] = []
        self._link: tuple[str, list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a":
            self._link = (given.get("href", ""), [])
        if tag not in _VOID and len(self._open) < _DEEPEST:
            invisible = bool(_INVISIBLE.search(given.get("style", "")[:2000])) or "hidden" in given
            self._open.append((tag, invisible or tag in ("style", "script", "title", "head")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._link is not None:
            self._judge(*self._link)
            self._link = None
        for place in range(len(self._open) - 1, -1, -1):
            if self._open[place][0] == tag:
                del self._open[place:]
                break

    def handle_data(self, data: str) -> None:
        if self._link is not None and len(self._link[1]) < 100:
            self._link[1].append(data)
        inside = [name for name, invisible in self._open if invisible]
        if inside and not {"style", "script", "title", "head"} & set(inside):
            self.hidden += len("".join(c for c in data if c.isalnum()))

    def _judge(self, href: str, shown: list[str]) -> None:
        text = _ADDRESS.match("".join(shown)[:500])
        try:
            leads = (urlsplit(href.strip()).hostname or "").lower()
        except ValueError:
            return
        if text and leads and not _related(text[1].lower(), leads):
            self.deceiving.append((text[1], leads))


def look(texts: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """`texts`: type and text of each text part."""
    hidden, deceiving = 0, []
    for kind, text in texts:
        if kind != "text/html":
            continue
        page = _Page()
        page.feed(text[:_MOST_READ])
        page.close()
        hidden += page.hidden
        deceiving += page.deceiving
    if hidden > _PREHEADER:
        yield warned(
            "message.hidden",
            f"{hidden} characters of text are hidden by styles",
            "Take hidden text out; a preview text of a line or two is fine",
        )
    for shown, leads in deceiving[:3]:
        yield warned(
            "message.hidden",
            f"a link shows {shown} and leads to {leads}",
            "Show words instead of an address, or have the link lead where it says (a counter on your own domain)",
        )
    if hidden <= _PREHEADER and not deceiving:
        yield passed("message.hidden", "no hidden text, no link that leads elsewhere than it says")


def _related(shown: str, leads: str) -> bool:
    """The same host, or one below the other, or below the same domain."""
    one, other = shown.removeprefix("www."), leads.removeprefix("www.")
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")
