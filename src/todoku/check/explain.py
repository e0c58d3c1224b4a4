"""What a reply means, whose move it is, and where that is written: `replies.toml`, held against what was said.

Several rows may fit; the one that says most about the reply wins. Codes are not enough: Gmail's 550 5.7.1 stands for
twenty things, and Outlook writes its own numbers (SC-001) into the words.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from importlib import resources
from typing import Any

from todoku.check import replies
from todoku.check.replies import Reply


class Move(Enum):
    """Who can do something about it."""

    OURS = "ours"
    RECIPIENT = "recipient"
    PROVIDER = "provider"
    RELAY = "relay"
    WAIT = "wait"

    @property
    def sentence(self) -> str:
        return _MOVES[self]


_MOVES = {
    Move.OURS: "Your move",
    Move.RECIPIENT: "The recipient's move",
    Move.PROVIDER: "The move of whoever runs the server there",
    Move.RELAY: "Oracle's move",
    Move.WAIT: "Nobody's move for now: the queue tries again",
}

# How the servers of a provider give themselves away, in lower case.
_HINTS = {
    "Gmail": ("gsmtp", "google.com", "gmail", "google's", "googlemail", "gcdp"),
    "Yahoo": ("yahoo", "yahoodns", "aol.com", "[tss", "[ts0", "[ipts", "[ph0", "rocketmail"),
    "Outlook": ("outlook.com", "hotmail", "microsoft", "office.com", "office365", "live.com", "(s3150)"),
    "Oracle": ("oraclecloud", "oracleemaildelivery", "ocid1."),
    "iCloud": ("icloud.com", "apple.com", "me.com["),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    id: str
    meaning: str
    move: Move
    todo: str
    source: str
    topics: tuple[str, ...] = ()
    provider: str = ""  # "" for all of them
    codes: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], ...] = ()  # alternatives; of each all parts have to be there
    distinctive: bool = False  # the code alone tells the provider


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reply, and what it means. `id` is the row's, empty when nothing in the table fits."""

    said: str
    permanent: bool | None
    provider: str
    id: str
    meaning: str
    move: Move
    todo: str
    source: str
    topics: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "move": self.move.value, "topics": list(self.topics)}


def explain(text: str) -> list[Explanation]:
    """What each reply in `text` means; none when there is nothing in it. Never fails."""
    return [_explanation(reply, text) for reply in replies.find(text)]


@cache
def table() -> tuple[Row, ...]:
    """The rows, in their order."""
    data = tomllib.loads((resources.files("todoku.check") / "replies.toml").read_text("utf-8"))
    sources: dict[str, str] = data["sources"]
    return tuple(_row(entry, sources) for entry in data["reply"])


def _row(entry: dict[str, Any], sources: dict[str, str]) -> Row:
    return Row(
        entry["id"],
        entry["meaning"],
        Move(entry["move"]),
        entry["todo"],
        sources[entry["source"]],
        tuple(entry["topics"]),
        entry.get("provider", ""),
        tuple(entry.get("codes", ())),
        tuple(tuple(alternative.split(" & ")) for alternative in entry.get("words", ())),
        entry.get("distinctive", False),
    )


def _explanation(reply: Reply, text: str) -> Explanation:
    hint = _provider(f"{reply.host} {reply.words}") or _by_code(reply) or _provider(text[: replies.LONGEST])
    scored = [(score, row) for row in table() if (score := _score(row, reply, hint))]
    if not scored:
        return _nothing_known(reply, hint)
    row = max(scored, key=lambda pair: pair[0])[1]  # of equals the first
    return Explanation(
        reply.words,
        reply.permanent,
        row.provider or hint,
        row.id,
        row.meaning,
        row.move,
        row.todo,
        row.source,
        row.topics,
    )


def _nothing_known(reply: Reply, hint: str) -> Explanation:
    return Explanation(
        reply.words,
        reply.permanent,
        hint,
        "",
        "There is no such reply in the table.",
        Move.OURS,
        "Read what it says; if it is a provider's, report it, so that it is added",
        "",
        (),
    )


def _provider(text: str) -> str:
    lowered = text.lower()
    return next((name for name, hints in _HINTS.items() if any(hint in lowered for hint in hints)), "")


def _by_code(reply: Reply) -> str:
    """The provider whose code this is, and nobody else's."""
    both = f"{reply.code} {reply.enhanced}"
    return next((row.provider for row in table() if row.distinctive and both in row.codes), "")


def _score(row: Row, reply: Reply, hint: str) -> int:
    """How much the row says about the reply; 0 when it does not fit."""
    if row.provider and hint and row.provider != hint:
        return 0
    code = _code_score(row.codes, reply)
    words = _words_score(row.words, reply.words.lower())
    if (row.codes and not code and (reply.code or reply.enhanced)) or (row.words and not words):
        return 0
    if not code and not words:
        return 0
    sure = 0
    if row.provider:
        # Another server's code, which anybody may use, says little about the provider.
        sure = 20 if hint == row.provider else 0 if words else -25
    return max(0, code + words + sure + (45 if row.distinctive else 0))


def _code_score(codes: Sequence[str], reply: Reply) -> int:
    both = f"{reply.code} {reply.enhanced}".strip()
    if reply.code and reply.enhanced and both in codes:
        return 30
    if reply.enhanced and reply.enhanced in codes:
        return 20
    return 10 if reply.code and str(reply.code) in codes else 0


def _words_score(alternatives: Sequence[Sequence[str]], said: str) -> int:
    """More for more letters, so that of two that fit the more exact one wins."""
    fitting = [sum(map(len, parts)) for parts in alternatives if all(part in said for part in parts)]
    return 40 + min(max(fitting), 39) if fitting else 0


def shown(explanation: Explanation) -> list[str]:
    """Lines for people."""
    forever = {True: "refused for good", False: "put off for now", None: "neither refused nor put off"}
    from_whom = f", {explanation.provider}" if explanation.provider else ""
    said = re.sub(r"\s+", " ", explanation.said)
    lines = [
        said if len(said) <= 300 else f"{said[:297]}...",
        f"  {explanation.meaning} ({forever[explanation.permanent]}{from_whom})",
        f"  {explanation.move.sentence}. {explanation.todo}.",
    ]
    if explanation.topics:
        lines.append("  Look at: " + ", ".join(f"todoku check {topic}" for topic in explanation.topics))
    if explanation.source:
        lines.append(f"  Source: {explanation.source}")
    return lines
