"""Which protection an attachment gets, for one sender and one recipient: one function, one written precedence.

1. Rules with senders, in their order: the first that fits decides.
2. Of the other rules: exclude for the address; a rule for the address; exclude for the domain; a rule for the domain;
   the same for each domain above it, the nearest first; rules for everybody; `protect.default`. Within one of these the
   first in the file.
3. A word in the subject (#link, #zip) replaces what was decided, but neither refuse nor exclude.

A rule's conditions (types, larger_than) are part of whether it fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from todoku.settings import Protect, ProtectRule


class Mode(Enum):
    """What becomes of the attachments. `EXCLUDE` is `PASS` that the sender's subject cannot change."""

    LINK = "link"
    ZIP = "zip"
    PASS = "pass"  # noqa: S105
    REFUSE = "refuse"
    EXCLUDE = "exclude"

    @property
    def protects(self) -> bool:
        """Whether the recipient gets something else than what was written."""
        return self in (Mode.LINK, Mode.ZIP)


@dataclass(frozen=True, slots=True)
class Content:
    """What the conditions look at: the endings of the attachments' names, lower case, and their size in bytes."""

    types: frozenset[str]
    size: int


@dataclass(frozen=True, slots=True)
class Decided:
    """`rule` is the number of the rule in the file, from 0; None: no rule did. `why` is for people."""

    mode: Mode
    rule: int | None
    why: str


def decide(
    policy: Protect, sender: str, recipient: str, content: Content, asked: Mode | None = None
) -> Decided:
    """`asked` is what the subject asks for. Addresses may be in any case."""
    decided = _by_rules(policy, sender.lower(), recipient.lower(), content)
    if asked is None or not policy.subject_words or decided.mode in (Mode.REFUSE, Mode.EXCLUDE):
        return decided
    return Decided(asked, None, f"the subject says #{asked.value}")


def _by_rules(policy: Protect, sender: str, recipient: str, content: Content) -> Decided:
    fitting = [
        (number, rule)
        for number, rule in enumerate(policy.rules)
        if _conditions_hold(rule, content) and (not rule.senders or _first(rule.senders, sender))
    ]
    for number, rule in fitting:
        if rule.senders and (not rule.recipients or _first(rule.recipients, recipient)):
            return Decided(Mode(rule.mode), number, f"a rule for the sender {_first(rule.senders, sender)}")
    others = [(number, rule) for number, rule in fitting if not rule.senders]
    for name in names(recipient):
        about = [(number, rule) for number, rule in others if name in rule.recipients]
        # Stable: within exclude and within the rest the order of the file stays.
        for number, rule in sorted(about, key=lambda each: each[1].mode != "exclude"):
            return Decided(Mode(rule.mode), number, f"a rule for {name}")
    for number, rule in others:
        if not rule.recipients:
            return Decided(Mode(rule.mode), number, "a rule for everybody")
    return Decided(Mode(policy.default), None, "protect.default")


def _conditions_hold(rule: ProtectRule, content: Content) -> bool:
    if rule.types and content.types.isdisjoint(rule.types):
        return False
    return content.size > rule.larger_than or not rule.larger_than


def _first(listed: Sequence[str], address: str) -> str | None:
    """The nearest of `listed` that stands for the address."""
    return next((name for name in names(address) if name in listed), None)


def names(address: str) -> Iterator[str]:
    """The address, its domain, and the domains above it."""
    yield address
    domain = address.rpartition("@")[2]
    while domain:
        yield domain
        domain = domain.partition(".")[2]
