"""What is to become of one message: read once, decided for each recipient, before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from todoku.protect import attachments, language, mime, names, subject
from todoku.protect.attachments import Attachment
from todoku.protect.language import Language
from todoku.protect.mime import Octets, Part
from todoku.protect.policy import Content, Decided, Mode, decide
from todoku.protect.subject import Asked
from todoku.settings import Protect


@dataclass(frozen=True, slots=True)
class Read:
    """A message as the policy sees it. `why` nothing is protected, if so."""

    message: Part
    body: Octets
    subject: str  # without the sender's words
    asked: Asked
    attachments: tuple[Attachment, ...]
    why: str = ""

    @property
    def content(self) -> Content:
        endings = frozenset(each.ending for each in self.attachments)
        return Content(endings, sum(each.octets for each in self.attachments))

    @property
    def language(self) -> Language:
        return language.of(self.subject, self.message, self.body)


@dataclass(frozen=True, slots=True)
class Plan:
    """`decided` for each recipient outside."""

    read: Read
    decided: dict[str, Decided]

    @property
    def recipients(self) -> frozenset[str]:
        """Those who get something else than what was written."""
        return frozenset(who for who, how in self.decided.items() if how.mode.protects)

    def of(self, mode: Mode) -> tuple[str, ...]:
        return tuple(who for who, how in self.decided.items() if how.mode is mode)


def read(policy: Protect, headers: bytes, body: Octets, raw_subject: str) -> Read:
    """Raises TooComplex."""
    message = mime.read(headers, body)
    text = subject.decoded(raw_subject)
    asked = subject.read(text) if policy.subject_words else Asked()
    rest = text if asked.rest is None else asked.rest
    if attachments.sealed(message, body):
        return Read(message, body, rest, asked, (), "its sender signed or encrypted it")
    found = attachments.found(message)
    kept = tuple(each for each in found if each.ending not in policy.except_types)
    why = "" if kept else "all attachments are of protect.except_types" if found else "it has no attachments"
    return Read(message, body, rest, asked, kept, why)


def plan(policy: Protect, read: Read, sender: str, outside: Iterable[str]) -> Plan:
    """What becomes of it for these recipients. With nothing to protect, nobody is decided on."""
    if not read.attachments:
        return Plan(read, {})
    return Plan(read, {who: decide(policy, sender, who, read.content, read.asked.mode) for who in outside})


def file_names(read: Read) -> Sequence[str]:
    return names.different(each.name for each in read.attachments)
