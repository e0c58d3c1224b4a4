"""The interface of a rule: one function, the message so far in, a decision out; and where it stands.

A rule that has to wait (DNS, clamd) is a coroutine function; the others are plain and must not block for longer
than a look-up in the store. The stage says how much of the message there is when the rule is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TypeAlias

from todoku.gate.context import Context
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
    """A rule at its stage. `name` is how the log calls it: "sender.belongs_to_login".

    Without `needed`, as it is when a connection begins, the rule costs that connection no round trip: it is not asked.
    """

    stage: Stage
    name: str
    rule: Rule
    needed: Callable[[Context], bool] | None = None


class RuleSet:
    """The rules by stage, in their order, and what they need of the protocol."""

    def __init__(self, order: Iterable[Placed]) -> None:
        order = tuple(order)
        self.at: dict[Stage, tuple[Placed, ...]] = {
            stage: tuple(placed for placed in order if placed.stage is stage) for stage in Stage
        }
        self._always = frozenset(placed.stage for placed in order if placed.needed is None)
        self._sometimes = tuple(placed for placed in order if placed.needed is not None)

    def steps(self, context: Context) -> Step:
        """How a connection that begins now may be shortened."""
        now = {placed.stage for placed in self._sometimes if placed.needed is None or placed.needed(context)}
        return _steps(self._always | now)


@cache
def _steps(stages: frozenset[Stage]) -> Step:
    return wanted_steps(stages, _SILENCES, body=Stage.BODY in stages)
