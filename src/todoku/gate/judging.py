"""The rules of a stage, asked one after the other; what they decide is followed.

Nothing passes by accident: a rule that fails holds the message back (451) and leaves its traceback in the log.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Generator

from todoku.gate import changes
from todoku.gate.decision import PASS, Change, Decision, HoldBack, Pass, Refuse, Verdict
from todoku.gate.message import MessageSoFar
from todoku.gate.rule import Placed, RuleSet, Stage

log = logging.getLogger("todoku.gate")

FAILED = HoldBack(451, "4.3.0", "The mail filter had a fault of its own; please try again later")


class Judge:
    """Asks the rules of one session. `rule`: the one that was asked last."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self.rule = ""

    def ask(
        self, stage: Stage, message: MessageSoFar
    ) -> Generator[Awaitable[Decision], Decision, Verdict | None]:
        """The verdict of the first rule that has one; None: it passes."""
        for placed in self._rules.at[stage]:
            self.rule = placed.name
            try:
                answer = placed.rule(message)
                if answer is PASS:
                    continue
                if inspect.isawaitable(answer):
                    answer = yield answer
                verdict = _follow(placed, answer, message)
            except Exception:  # a mistake of ours must not let a message pass, nor end the connection
                log.exception("%s: rule %s failed: held back", called(message), placed.name)
                return FAILED
            if verdict:
                log.info("%s: rule %s: %s", called(message), placed.name, _said(verdict, message))
                return verdict
        return None


def called(message: MessageSoFar | None) -> str:
    """How the log calls the message: as Postfix does."""
    return (message and message.queue_id) or "NOQUEUE"


def _follow(placed: Placed, answer: Decision, message: MessageSoFar) -> Verdict | None:
    """Applies a change; TypeError or ValueError when the rule decided what it may not."""
    match answer:
        case Pass():
            return None
        case Refuse() | HoldBack():
            return answer
        case Change(modifications):
            if placed.stage < Stage.MAIL:
                raise ValueError(f"there is no message to change at {placed.stage.name}")
            for modification in modifications:
                if placed.stage < Stage.HEADERS and changes.touches_content(modification):
                    raise ValueError(f"headers and body cannot be changed at {placed.stage.name}")
                changes.apply(modification, message)
            return None
        case _:
            raise TypeError(f"a rule decides Pass, Change, Refuse or HoldBack, not {answer!r}")


def _said(verdict: Verdict, message: MessageSoFar) -> str:
    who = f"from=<{message.sender}> login={message.login or '-'} client={message.client.address or '-'}"
    return f"{verdict.code} {verdict.enhanced} {' '.join(verdict.words.split())} ({who})"
