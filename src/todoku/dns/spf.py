"""SPF records (RFC 7208): read by the grammar of section 12, and the relay added to what is there.

Merging never loses a term: what the record says stays, in its order and with its qualifiers. What receivers
have to look up for it is counted in `spf_cost`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Network, IPv6Network, NetmaskValueError

from todoku.dns.problems import SpfProblem
from todoku.dns.text import short

VERSION = "v=spf1"

_EXPAND = r"(?:%\{[slodiphcrtvSLODIPHCRTV][0-9]*[rR]?[.\-+,/_=]*\}|%%|%_|%-)"
_MACRO_STRING = rf"(?:{_EXPAND}|[!-$&-~])*"
_TOPLABEL = r"\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?"
_DOMAIN = re.compile(rf"{_MACRO_STRING}(?:{_TOPLABEL}|%\{{[^}}]*\}})")
_CIDR = re.compile(
    r"(?P<domain>.*?)(?:/(?P<four>0|[1-9][0-9]?))?(?://(?P<six>0|[1-9][0-9]{0,2}))?", re.DOTALL
)
_TERM = re.compile(r"(?P<qualifier>[+\-?~]?)(?P<name>[A-Za-z][A-Za-z0-9]*)(?P<rest>[:/].*)?", re.DOTALL)
_MODIFIER = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9\-_.]*)=(?P<value>.*)", re.DOTALL)

_LONGEST_VALUE = 512  # a name has at most 253 characters; macros can make it look longer

_NEEDS_DOMAIN = ("include", "exists")
_WITH_CIDR = ("a", "mx")


@dataclass(frozen=True, slots=True)
class Term:
    """One directive or modifier, with the text that it was written as."""

    text: str
    name: str  # "include", "ip4", "redirect"; lower case
    value: str = ""  # what follows ":" or "=" (without a CIDR length), or nothing
    qualifier: str = "+"
    modifier: bool = False

    @property
    def meaning(self) -> tuple[str, str, str]:
        """Equal for terms that say the same thing, whatever the qualifier."""
        return self.name, self.value.lower().removesuffix("."), _tail(self)

    def is_same(self, other: Term) -> bool:
        """Whether both say the same thing, whatever the qualifier."""
        return self.meaning == other.meaning


@dataclass(frozen=True, slots=True)
class Record:
    """An SPF record, term by term."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return " ".join((VERSION, *(term.text for term in self.terms)))

    @property
    def redirect(self) -> str | None:
        """Where the record goes on when nothing in it matches; an `all` makes it void (RFC 7208 6.1)."""
        if any(term.name == "all" for term in self.terms):
            return None
        return next((term.value for term in self.terms if term.modifier and term.name == "redirect"), None)


def is_spf(text: str) -> bool:
    """Whether a TXT value is an SPF record (RFC 7208 4.5): the version, then a space or the end."""
    return text[:6].lower() == VERSION and text[6:7] in ("", " ")


def parse(text: str) -> Record:
    """The record that `text` is. Raises SpfProblem, which quotes the term that is wrong."""
    if not is_spf(text):
        raise SpfProblem(f'"{short(text)}" is not an SPF record: it has to begin with "{VERSION} "')
    terms = tuple(_term(word) for word in text[len(VERSION) :].split(" ") if word)
    for name in ("redirect", "exp"):
        if sum(term.modifier and term.name == name for term in terms) > 1:
            raise SpfProblem(f"the SPF record has {name}= more than once: remove one (RFC 7208 6)")
    return Record(terms)


def repeated(text: str) -> tuple[str, ...]:
    """The terms of a record that say what an earlier one has said already. Raises SpfProblem."""
    known: set[tuple[str, str, str]] = set()
    again = []
    for term in parse(text).terms:
        if term.meaning in known:
            again.append(term.text)
        known.add(term.meaning)
    return tuple(dict.fromkeys(again))


def merge(existing: str | None, wanted: str) -> str:
    """`existing` with every mechanism of `wanted` that it lacks; `wanted` itself when there is none.

    New mechanisms come before `all`, behind everything else that is there. Raises SpfProblem when `existing`
    cannot be read, or says something else about the relay than that it may send.
    """
    if existing is None:
        return str(parse(wanted))
    record = parse(existing)
    reached = _reached(record.terms)
    missing = [term for term in parse(wanted).terms if term.name != "all" and not _allowed(term, reached)]
    if not missing:
        return existing
    place = next(
        (at for at, term in enumerate(record.terms) if term.name == "all" or term.name == "redirect"),
        len(record.terms),
    )
    return str(Record((*record.terms[:place], *missing, *record.terms[place:])))


def _reached(terms: Sequence[Term]) -> tuple[Term, ...]:
    """The terms up to `all`, at which every evaluation ends (RFC 7208 5.1)."""
    end = next((at for at, term in enumerate(terms) if term.name == "all"), len(terms))
    return tuple(terms[:end])


def _allowed(term: Term, reached: Sequence[Term]) -> bool:
    same = next((other for other in reached if other.is_same(term)), None)
    if same is None:
        return False
    if same.qualifier != term.qualifier:
        raise SpfProblem(
            f'the SPF record says "{same.text}", and the first match decides: what the relay sends would not '
            f'pass. Change that term to "{term.text}"'
        )
    return True


def _term(word: str) -> Term:
    if modifier := _MODIFIER.fullmatch(word):
        name, value = modifier["name"].lower(), modifier["value"]
        if not re.fullmatch(_MACRO_STRING, value):
            raise _wrong(word, "its value has a character or a % that is not allowed")
        if name in ("redirect", "exp") and not _is_domain(value):
            raise _wrong(word, "it needs a domain name")
        return Term(word, name, value, "", modifier=True)
    found = _TERM.fullmatch(word)
    if found is None:
        raise _wrong(word, "it is neither a mechanism nor a modifier")
    name, rest = found["name"].lower(), found["rest"] or ""
    value = _mechanism_value(word, name, rest)
    return Term(word, name, value, found["qualifier"] or "+")


def _mechanism_value(word: str, name: str, rest: str) -> str:
    """The domain or network of a mechanism, checked by the rules of that mechanism."""
    if name == "all":
        if rest:
            raise _wrong(word, "`all` stands alone")
        return ""
    if name in ("ip4", "ip6"):
        return _network(word, name, rest.removeprefix(":"))
    if name in _WITH_CIDR:
        parts = _CIDR.fullmatch(rest)
        if parts is None or int(parts["four"] or 0) > 32 or int(parts["six"] or 0) > 128:
            raise _wrong(word, "the length after the / is too large")
        rest = parts["domain"]
    elif name not in (*_NEEDS_DOMAIN, "ptr"):
        raise _wrong(word, "there is no such mechanism")
    if not rest and name not in _NEEDS_DOMAIN:
        return ""
    value = rest.removeprefix(":")
    if not rest.startswith(":") or not _is_domain(value):
        raise _wrong(word, "it needs a domain name after the colon")
    return value


def _network(word: str, name: str, text: str) -> str:
    try:
        (IPv4Network if name == "ip4" else IPv6Network)(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise _wrong(word, f"it needs an IPv{name[-1]} address or network") from None
    return text


def _is_domain(value: str) -> bool:
    return len(value) <= _LONGEST_VALUE and bool(_DOMAIN.fullmatch(value))


def _wrong(word: str, why: str) -> SpfProblem:
    return SpfProblem(
        f'the SPF record has the term "{short(word)}", which receivers refuse: {why}. Correct it where the '
        "record is published"
    )


def _tail(term: Term) -> str:
    """The CIDR lengths of an `a` or `mx` term."""
    return term.text.partition("/")[2] if term.name in _WITH_CIDR else ""
