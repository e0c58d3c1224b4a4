"""The interface of a rule: one function, the message so far in, a decision out; and where it stands.

A rule that has to wait (DNS, clamd) is a coroutine function; the others are plain and must not block for longer
than a look-up in the store. The stage says how much of the message there is when the rule is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from todoku.gate.decision import Decision
from todoku.gate.message import MessageSoFar
from todoku.gate.protocol import Step, wanted_steps

Rule: TypeAlias = Callable[[MessageSoFar], Decision | Awaitable[Decision]]


class Stage(IntEnum):
    """CONNECT to RCPT answer at once and cost a round trip each; HEADERS and BODY answer at the end of the message.

    At RCPT a rule is asked once for each recipient (`message.recipients[-1]`), and its refusal is only that
    recipient's. Headers and body can be changed at HEADERS and BODY only, the envelope from MAIL on.
    """

    CONNECT = 1
    HELO = 2
    MAIL = 3
    RCPT = 4
    HEADERS = 5
    BODY = 6


_SILENCES: dict[int, Step] = {
    Stage.CONNECT: Step.SILENT_CONNECT,
    Stage.HELO: Step.SILENT_HELO,
    Stage.MAIL: Step.SILENT_MAIL,
    Stage.RCPT: Step.SILENT_RCPT,
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A rule at its stage. `name` is how the log calls it: "sender.belongs_to_login"."""

    stage: Stage
    name: str
    rule: Rule


class RuleSet:
    """The rules by stage, in their order, and what they need of the protocol."""

    def __init__(self, order: Iterable[Placed]) -> None:
        order = tuple(order)
        self.at: dict[Stage, tuple[Placed, ...]] = {
            stage: tuple(placed for placed in order if placed.stage is stage) for stage in Stage
        }
        stages = {placed.stage for placed in order}
        self.steps = wanted_steps(stages, _SILENCES, body=Stage.BODY in stages)
