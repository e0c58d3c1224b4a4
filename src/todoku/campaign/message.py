"""The octets of one message to one person (RFC 5322, 2045, 2369, 2919, 8058).

Written directly, not with `email.message`: that takes a millisecond for each, and there are a hundred thousand of
them. Texts are base64 where they are not plain ASCII with short lines: 76 characters a line, no line of Japanese text
is ever too long for SMTP (998 octets), and no character is cut by a line's end as in quoted-printable.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from email.header import Header
from email.utils import formatdate
from functools import cached_property, lru_cache

from todoku.campaign.opened import Opened
from todoku.campaign.template import Filled, TemplateFault, Templates
from todoku.campaign.tokens import Keys, Link
from todoku.campaign.tracking import Counted

UNSUBSCRIBE, PREFERENCES, CONFIRM = "unsubscribe", "preferences", "confirm"  # what tokens are for
_LINE = 76  # characters (RFC 2045 6.8)
_READABLE = 200  # characters of a line of ASCII: a link is long, and may not be cut (SMTP takes 998)


@dataclass(frozen=True, slots=True)
class Person:
    """To whom, and the row of this message; `recipient` 0 in previews."""

    subscriber: int
    address: str
    attributes: Mapping[str, str]
    language: str
    recipient: int = 0
    variant: str = "a"


@dataclass(frozen=True)
class Letter:
    """What one campaign's messages have in common. `bulk` false: the answer to a form."""

    keys: Keys
    templates: Templates
    campaign: int
    campaign_name: str
    list_id: int
    list_name: str
    list_title: str
    sender: str
    sender_name: str
    url: str
    bulk: bool = True
    counted: Counted | None = None  # opens and clicks, where they are switched on

    @classmethod
    def of(
        cls,
        opened: Opened,
        templates: Templates,
        campaign: tuple[int, str],
        list_: tuple[int, str, str],
        *,
        bulk: bool = True,
        counted: Counted | None = None,
    ) -> Letter:
        """`campaign`: its number and name; `list_`: its number, name and title."""
        wanted = opened.wanted
        return cls(
            keys=opened.keys,
            templates=templates,
            campaign=campaign[0],
            campaign_name=campaign[1],
            list_id=list_[0],
            list_name=list_[1],
            list_title=list_[2],
            sender=wanted.sender,
            sender_name=wanted.sender_name,
            url=wanted.url,
            bulk=bulk,
            counted=counted,
        )

    def values(self, person: Person) -> dict[str, str]:
        """What the templates can use."""
        link = Link(person.subscriber, self.list_id, person.recipient)
        counted = self.counted
        return {
            **person.attributes,
            **({} if counted is None else counted.values(self.url, self.keys, link, person.attributes)),
            "address": person.address,
            "language": person.language,
            "list_title": self.list_title,
            **{purpose: page(self.url, self.keys, link, purpose) for purpose in self._purposes},
        }

    @cached_property
    def _purposes(self) -> tuple[str, ...]:
        """Of the links that are in it: each takes some microseconds to seal."""
        return tuple(
            each
            for each in (UNSUBSCRIBE, PREFERENCES, CONFIRM)
            if each == UNSUBSCRIBE or each in self.templates.names
        )

    def shows_link(self, person: Person) -> bool:
        """Whether people see in each part how to unsubscribe. Raises TemplateFault."""
        values = self.values(person)
        filled = self.templates.fill(values, person.variant)
        links = [values[each] for each in (UNSUBSCRIBE, PREFERENCES) if each in values]
        parts = [filled.text] if filled.html is None else [filled.text, filled.html]
        return all(any(link in part for link in links) for part in parts)

    def message_id(self, person: Person) -> str:
        """The same for the same row, however often it is tried."""
        domain = self.sender.rpartition("@")[2]
        return f"<{message_id(self.keys, self.campaign, person.recipient, person.subscriber)}@{domain}>"

    def write(self, person: Person, now: float) -> bytes:
        """With CRLF, and without the dot that ends it. Raises TemplateFault."""
        try:
            return self._written(person, now)
        except UnicodeEncodeError as error:
            raise TemplateFault(f"it has a character that no message can have: {error}") from error

    def _written(self, person: Person, now: float) -> bytes:
        values = self.values(person)
        filled = self.templates.fill(values, person.variant)
        domain = self.sender.rpartition("@")[2]
        head = [
            f"From: {_phrase(self.sender_name)} <{self.sender}>",
            f"To: {person.address}",
            _header("Subject", filled.subject),
            f"Date: {_date(int(now))}",
            f"Message-ID: {self.message_id(person)}",
            "MIME-Version: 1.0",
        ]
        if self.bulk:
            head += [
                f"List-Id: {_phrase(self.list_title)} <{self.list_name}.{domain}>",
                f"List-Unsubscribe: <{values['unsubscribe']}>",
                "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
                f"Feedback-ID: {self._feedback_id}",
            ]
        return "\r\n".join(head).encode("ascii") + b"\r\n" + self._body(filled)

    @cached_property
    def _feedback_id(self) -> str:
        # The last is the sender's own, of 5 to 15 characters, for good; the others are not equal to one another.
        sender = "td" + self.keys.digest("sender", self.sender.rpartition("@")[2])[:10]
        return f"c-{self.campaign_name}:l-{self.list_name}:bulk:{sender}"

    def _body(self, filled: Filled) -> bytes:
        if filled.html is None:
            return _part("plain", filled.text)
        mark = f"--{self._boundary}".encode()
        return b"\r\n".join(
            (
                f'Content-Type: multipart/alternative; boundary="{self._boundary}"'.encode(),
                b"",
                mark,
                _part("plain", filled.text).rstrip(b"\r\n"),
                mark,
                _part("html", filled.html).rstrip(b"\r\n"),
                mark + b"--",
                b"",
            )
        )

    @cached_property
    def _boundary(self) -> str:
        return "=_" + self.keys.digest("boundary", str(self.campaign))[:24]


def message_id(keys: Keys, campaign: int, recipient: int, subscriber: int) -> str:
    """The part before the @."""
    return keys.digest("message", str(campaign), str(recipient), str(subscriber))[:40]


def page(url: str, keys: Keys, link: Link, purpose: str) -> str:
    """The address of a page that knows whom it is for."""
    return f"{url}/{purpose}/{keys.token(link, purpose)}"


def _part(kind: str, text: str) -> bytes:
    octets = "\r\n".join(text.splitlines()).encode() + b"\r\n"
    if octets.isascii() and b"\0" not in octets and max(map(len, octets.split(b"\r\n"))) <= _READABLE:
        head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        return head.encode() + octets
    encoded = binascii.b2a_base64(octets, newline=False)
    lines = [encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)]
    head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + b"\r\n".join(lines) + b"\r\n"


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    return formatdate(second)


def _header(name: str, value: str) -> str:
    """RFC 2047 where it has to be; a character is never cut into two encoded words."""
    if value.isascii() and len(value) + len(name) + 2 <= _LINE and "=?" not in value:
        return f"{name}: {value}"
    words, octets, room = [], b"", _encoded_room(len(name) + 2)
    for character in value:
        more = character.encode()
        if len(octets) + len(more) > room:
            words.append(octets)
            octets, room = b"", _encoded_room(1)
        octets += more
    encoded = [binascii.b2a_base64(each, newline=False).decode() for each in (*words, octets)]
    return f"{name}: " + "\r\n ".join(f"=?utf-8?b?{each}?=" for each in encoded)


def _encoded_room(before: int) -> int:
    """Octets in an encoded word on a line that has so many characters before it (RFC 2047 2)."""
    return (min(75, _LINE - before) - len("=?utf-8?b??=")) // 4 * 3


@lru_cache(maxsize=256)
def _phrase(words: str) -> str:
    """The name beside an address (RFC 5322 3.2.5)."""
    if not words.isascii() or "=?" in words:
        return Header(words, "utf-8", maxlinelen=_LINE, header_name="From").encode(linesep="\r\n")
    escaped = words.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
