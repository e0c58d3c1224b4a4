"""How record values are written.

Inside Todoku a value is plain: host names without the final dot and in lower case, a TXT value as one text
without quotes. Zone files, name servers and most providers speak presentation format (RFC 1035 5.1): final
dots, quotes, and TXT cut into strings of at most 255 bytes. Everything converts here, once, at the edge.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype

_LONGEST_STRING = 255  # bytes, RFC 1035 3.3
_LONGEST_NAME = 253  # characters, RFC 1035 3.1: 255 bytes on the wire
_SHORT, _MANY = 80, 5  # what is quoted of others in messages: characters, values
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"|([^"\s]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(\d{3}|.)", re.DOTALL)


def plain(type_: str, presentation: str) -> str:
    """A value in presentation format, as Todoku holds it. What cannot be read stays as it is."""
    if type_ == "TXT":
        return _joined(presentation)
    try:
        rdata = dns.rdata.from_text("IN", type_, presentation)
    except (dns.exception.DNSException, ValueError):
        return presentation.strip().rstrip(".").lower()
    return of_rdata(rdata)


def of_rdata(rdata: dns.rdata.Rdata) -> str:
    """The value of a record that came over the wire."""
    if rdata.rdtype == dns.rdatatype.TXT:
        return decoded(b"".join(rdata.strings))  # type: ignore[attr-defined]
    text = rdata.to_text().lower()
    return text if text == "." else text.removesuffix(".")


def presentation(type_: str, value: str) -> str:
    """`value` as it stands in a zone file, with final dots and quotes."""
    if type_ == "TXT":
        return " ".join(f'"{_escaped(part)}"' for part in chunks(value))
    if type_ in ("CNAME", "NS", "PTR", "MX"):
        return value if value.endswith(".") else f"{value}."
    return value


def chunks(text: str) -> tuple[bytes, ...]:
    """A TXT value as the strings that it consists of on the wire, each of at most 255 bytes."""
    data = encoded(text)
    return tuple(data[at : at + _LONGEST_STRING] for at in range(0, len(data), _LONGEST_STRING)) or (b"",)


def encoded(text: str) -> bytes:
    """The bytes of a TXT value. Any bytes come back from `decoded` unharmed."""
    return text.encode("utf-8", "surrogateescape")


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def relative(name: str, zone: str) -> str:
    """`name` as seen from its zone, "@" for the zone itself: what most web consoles want."""
    if name == zone:
        return "@"
    return name.removesuffix(f".{zone}") if name.endswith(f".{zone}") else f"{name}."


def within(name: str, zone: str) -> bool:
    """Whether `name` is the zone or below it."""
    return name == zone or name.endswith(f".{zone}")


def short(text: str) -> str:
    """What somebody else wrote, for a message: one line of bounded length that no terminal obeys."""
    shown = text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."
    return "".join(c if c.isprintable() else "?" for c in shown)


def listed(values: Sequence[str]) -> str:
    """Several such, of which there may be many."""
    more = [f"and {len(values) - _MANY} more"] if len(values) > _MANY else []
    return ", ".join([*map(short, values[:_MANY]), *more])


def fits(name: str) -> bool:
    """Whether a name is short enough to exist (RFC 1035 3.1)."""
    return len(name) <= _LONGEST_NAME


def _joined(text: str) -> str:
    """One text out of the quoted strings in `text`; a text without quotes is taken as it is.

    Some providers hand out the strings with the outermost quotes cut off, so that the text begins and ends
    inside a string.
    """
    stripped = text.strip()
    if re.search(r'(?<!\\)"\s+"', stripped) and not stripped.startswith('"'):
        stripped = f'"{stripped}"'
    if not stripped.startswith('"'):
        return stripped
    parts = [_unescaped(m[1]) if m[1] is not None else m[2].encode() for m in _STRING.finditer(stripped)]
    return decoded(b"".join(parts))


def _unescaped(text: str) -> bytes:
    parts: list[bytes] = []
    at = 0
    for found in _ESCAPE.finditer(text):
        parts.append(encoded(text[at : found.start()]))
        code = found[1]
        number = int(code) if len(code) == 3 and code.isascii() else None
        parts.append(bytes([number]) if number is not None and number < 256 else encoded(code))
        at = found.end()
    parts.append(encoded(text[at:]))
    return b"".join(parts)


def _escaped(data: bytes) -> str:
    return "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03d}"
        for byte in data
    )
