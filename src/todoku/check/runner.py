"""The steps of a check, all at the same time, each with a deadline: one that takes too long says "unknown".

A step blocks while it waits for the DNS, for a server or for the cloud, so each has a thread of its own. What is late
is left behind: its thread ends with the process.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from todoku.check.finding import Finding, by_urgency, unknown
from todoku.check.means import Unanswered
from todoku.cloud.errors import CloudError, Trouble
from todoku.gate.resolver import DnsTrouble
from todoku.plan.resource import LookFailed

STEP_SECONDS = 8.0
ALL_SECONDS = 9.0  # whatever happens, the answer is there
# In the cloud's errors: behind what Oracle said.
_WHAT_TO_DO = re.compile(r"(?<=\))(?:; |\. |: )(?=[A-Za-z])")
log = logging.getLogger("todoku.check")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to look at. `rule` and `about` name it where it cannot be found out."""

    rule: str
    about: str
    look: Callable[[], Iterable[Finding]]
    seconds: float = STEP_SECONDS


def run(
    steps: Sequence[Step],
    *,
    seconds: float = ALL_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> list[Finding]:
    """The findings of all steps, the most urgent first, within `seconds`."""
    done: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    begun = clock()
    for number, step in enumerate(steps):
        threading.Thread(target=_work, args=(number, step, done), name=step.rule, daemon=True).start()
    found: dict[int, list[Finding]] = {}
    waiting = dict(enumerate(steps))
    while waiting:
        left = begun + min(seconds, max(step.seconds for step in waiting.values())) - clock()
        try:
            number, findings = done.get(timeout=max(0.0, left))
        except queue.Empty:
            break
        found[number] = findings
        del waiting[number]
    for number, step in waiting.items():
        found[number] = [_late(step, seconds)]
    return by_urgency(finding for findings in found.values() for finding in findings)


def _late(step: Step, seconds: float) -> Finding:
    limit = min(step.seconds, seconds)
    return unknown(
        step.rule,
        f"no answer within {limit:g} s",
        "Look again; if it stays so, whoever is asked here is too slow, or does not answer",
        step.about,
    )


def _work(number: int, step: Step, done: queue.SimpleQueue[tuple[int, list[Finding]]]) -> None:
    done.put((number, _findings(step)))


def _findings(step: Step) -> list[Finding]:
    try:
        return list(step.look())
    except (Unanswered, DnsTrouble) as problem:
        advice = "Look again; if it stays so, the resolver or the zone's name servers have a problem"
        return [unknown(step.rule, f"the DNS does not answer: {problem}", advice, step.about)]
    except (CloudError, LookFailed) as problem:
        seen, advice = in_two(problem)
        return [unknown(step.rule, seen, advice, step.about)]
    except TimeoutError as problem:
        advice = "See whether the service runs and can be reached, and what its log says; then look again"
        return [unknown(step.rule, f"no answer in time ({problem})", advice, step.about)]
    except OSError as problem:
        advice = "See whether that service runs and what its log says, then look again"
        return [unknown(step.rule, problem.strerror or str(problem), advice, step.about)]
    except Exception as problem:  # a fault of ours in one topic leaves the others their findings
        log.exception("the step %s (%s) failed", step.rule, step.about)
        return [
            unknown(
                step.rule,
                f"a fault in Todoku itself: {problem!r}",
                "Report it, with what is printed above",
                step.about,
            )
        ]


def in_two(problem: LookFailed) -> tuple[str, str]:
    """What went wrong, and what to do: an error of the cloud room says both in one text.

    What was asked for is left out where the cloud as a whole does not answer: it is the same for all that ask it.
    """
    text = " ".join(str(problem).split())
    if isinstance(problem, CloudError) and problem.trouble is not Trouble.DENIED:
        text = text.partition(": ")[2] or text
    seen, mark, advice = _WHAT_TO_DO.sub("\0", text, count=1).partition("\0")
    if not mark:
        return seen, "Put that right, then look again"
    return seen, f"{advice[0].upper()}{advice[1:]}"
