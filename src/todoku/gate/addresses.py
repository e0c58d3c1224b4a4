"""The addresses in From and Sender, read strictly where it matters (RFC 5322 3.4).

Not with Python's email package: it takes `alice@hoge.example <bob@other.example>` for alice's, and decodes encoded
words inside addresses, where receivers do not. So the address has to be there literally, as a dot-atom or a quoted
string, and display names may be as sloppy as mail programs are. What is accepted here the email package reads in
the same way, which the tests hold against each other. Linear in the length; never raises anything but Malformed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"  # RFC 5322 3.2.3
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDR_SPEC = re.compile(rf"(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})@{_LABEL}(?:\.{_LABEL})*")
_KEPT = r'("(?:[^"\\]|\\.)*")'  # a quoted string, whose content is nobody's to change
_SPACE = re.compile(rf"{_KEPT}|[ \t]+")
_AROUND = re.compile(rf"{_KEPT}| ?([@.]) ?")
_ENCODED_WORD = "=?"  # RFC 2047 5 (3): never within an address
_LONGEST = 254  # octets, RFC 5321 4.5.3.1.3
_LONGEST_VALUE = 8192  # characters of the whole header: what is longer is no one's name and address


class Malformed(ValueError):
    """Not a list of addresses; the words say why, to go behind the header's name."""


class _Token(NamedTuple):
    """A quoted string with its quotes, one of `<>,:;`, or other text without its comments."""

    kind: str  # "quoted", "special" or "text"
    text: str


_OPEN, _CLOSE = _Token("special", "<"), _Token("special", ">")


def addresses(value: str) -> list[str]:
    """The addresses of an unfolded From or Sender, as they are written. Malformed when it is not sure what they are."""
    return list(_addresses(value))


@lru_cache(256)  # several rules ask about one message, and people write with the same From again
def _addresses(value: str) -> tuple[str, ...]:
    if len(value) > _LONGEST_VALUE:
        raise Malformed(f"has more than {_LONGEST_VALUE:,} characters")
    mailboxes: list[list[_Token]] = [[]]
    inside = False
    for token in _tokens(value):
        if token.kind == "special" and token.text in ":;" and not inside:
            raise Malformed("has a group of addresses")
        if token.kind == "special" and token.text == "," and not inside:
            mailboxes.append([])
            continue
        if token.kind == "special" and token.text in "<>":
            inside = token.text == "<"
        mailboxes[-1].append(token)
    found = [_mailbox(tokens) for tokens in mailboxes if _something(tokens)]
    if len(found) != len(mailboxes) and found:
        raise Malformed("has a comma without an address before or after it")
    return tuple(found)


def _something(tokens: list[_Token]) -> bool:
    return any(token.text.strip() for token in tokens)


def _mailbox(tokens: list[_Token]) -> str:
    opened = [at for at, token in enumerate(tokens) if token == _OPEN]
    closed = [at for at, token in enumerate(tokens) if token == _CLOSE]
    if not opened and not closed:
        return _addr_spec(tokens)
    if len(opened) != 1 or len(closed) != 1 or closed[0] < opened[0]:
        raise Malformed("has angle brackets that do not belong together")
    if _something(tokens[closed[0] + 1 :]):
        raise Malformed("has text after the closing angle bracket")
    address = _addr_spec(tokens[opened[0] + 1 : closed[0]])
    for token in tokens[: opened[0]]:
        # An address as a name is sloppy, and common; another address as a name deceives some who read it.
        if token.kind == "text" and "@" in token.text and token.text.strip().lower() != address.lower():
            raise Malformed("has an address without quotes in the place of the name")
    return address


def _addr_spec(tokens: list[_Token]) -> str:
    """The address that the tokens are, without the space that RFC 5322 4.4 lets stand around its parts."""
    text = "".join(token.text for token in tokens)
    text = _AROUND.sub(
        lambda found: found[1] or found[2], _SPACE.sub(lambda found: found[1] or " ", text)
    ).strip()
    if len(text) > _LONGEST:
        raise Malformed(f"has an address of more than {_LONGEST} characters")
    if not _ADDR_SPEC.fullmatch(text):
        raise Malformed(f"has {_short(text)} where an address should be")
    if _ENCODED_WORD in text:
        raise Malformed("has an encoded word in an address (RFC 2047 5)")
    return text


def _short(text: str) -> str:
    shown = "".join(each if each.isprintable() else "?" for each in text[:60])
    return f'"{shown}"' if shown else "nothing"


def _tokens(value: str) -> list[_Token]:
    found: list[_Token] = []
    at, length = 0, len(value)
    while at < length:
        start, character = at, value[at]
        if character == '"':
            at = _end_of_quoted(value, at)
            found.append(_Token("quoted", value[start:at]))
        elif character == "(":
            at = _end_of_comment(value, at)
            found.append(_Token("text", " "))
        elif character in "<>,:;":
            at += 1
            found.append(_Token("special", character))
        else:
            while at < length and value[at] not in '"(<>,:;':
                at += 1
            for stray in "\\)[]":
                if stray in value[start:at]:
                    raise Malformed(f"has a {stray} that belongs to nothing")
            found.append(_Token("text", value[start:at]))
    return found


def _end_of_quoted(value: str, at: int) -> int:
    at += 1
    while at < len(value):
        if value[at] == '"':
            return at + 1
        at += 2 if value[at] == "\\" else 1
    raise Malformed("has a quotation mark that is not closed")


def _end_of_comment(value: str, at: int) -> int:
    depth = 0
    while at < len(value):
        if value[at] == "\\":
            at += 1
        elif value[at] == "(":
            depth += 1
        elif value[at] == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    raise Malformed("has a bracket that is not closed")
