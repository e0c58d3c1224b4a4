"""Hands the copies with protected attachments to Postfix, from the disk where they wait, each once.

As soon as they are there, and again later what Postfix did not take then or what a gate that was killed left behind.
What is refused for good, or not taken for five days, is told to its sender.

A copy is done when Postfix has said "250". Where nobody heard what it said (killed, one of the two), the mark that the
copy left when it passed the gate tells: no mark, and Postfix cannot have it; a mark, and the agent is asked whether the
queue ID in it was ever in Postfix' queue (`asked`). Until that is known the copy waits: it is neither lost nor doubled.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from functools import cache
from pathlib import Path

from todoku.gate import asked, protected, released, srs
from todoku.gate.reinjection import NotTaken, hand_over_file
from todoku.protect.held import Quarantine
from todoku.protect.spool import REMEMBERED, Copy, Job, Spool

SPOOL = Path("/var/lib/todoku/gate/protect")
LOOK_EVERY = 5.0  # seconds
_LONGEST_WAIT = 300.0
_TIDY_EVERY = 600.0

log = logging.getLogger("todoku.gate")

HandOver = Callable[[Path, str, tuple[str, ...]], None]


class NotKnown(NotTaken):
    """Whether Postfix has it is being found out."""


class Courier:
    """Blocks while Postfix takes a copy: for a thread. Its arguments are for tests."""

    def __init__(
        self,
        spool: Spool | None = None,
        hand_over: HandOver = hand_over_file,
        clock: Callable[[], float] = time.time,
        agent: asked.Agent | None = None,
    ) -> None:
        self._spool = spool or Spool(SPOOL)
        self._hand_over = hand_over
        self._clock = clock
        self._agent = agent or asked.Agent()
        self._waits: dict[
            str, tuple[float, float]
        ] = {}  # job -> when to try again, and how long to wait then
        self._tidied = float("-inf")

    def look(self) -> None:
        """Everything that it is time for."""
        now = self._clock()
        if now - self._tidied > _TIDY_EVERY:
            self._tidied = now
            self._spool.tidy(now)
        jobs = self._spool.jobs()
        self._waits = {job.id: self._waits[job.id] for job in jobs if job.id in self._waits}
        for job in jobs:
            if self._waits.get(job.id, (0.0, 0.0))[0] <= now:
                self.deliver(job)

    def deliver(self, job: Job) -> None:
        """One job, unless another worker has it."""
        try:
            with job.taken() as ours:
                if ours and not self._deliver(job):
                    wait = min(2 * self._waits.get(job.id, (0.0, LOOK_EVERY))[1], _LONGEST_WAIT)
                    self._waits[job.id] = self._clock() + wait, wait
        except Exception:  # a file of it is gone, say: the others must not wait for that
            log.exception("the protected copies %s cannot be handed over now", job.id)
            self._waits[job.id] = self._clock() + _LONGEST_WAIT, _LONGEST_WAIT

    def _deliver(self, job: Job) -> bool:
        """Whether all is done."""
        told, made, copies = job.read()
        late = self._clock() - made > REMEMBERED
        done = [self._one(job, copy, told, late=late) for copy in copies]
        if all(done):
            job.close(copies)
        return all(done)

    def _one(self, job: Job, copy: Copy, told: str, *, late: bool) -> bool:
        name = f"{job.id}.{copy.number}"
        try:
            if job.notice(copy).exists():
                self._hand(job, f"{name}n", job.notice(copy), srs.plain(told.rpartition("@")[2]), (told,))
            elif job.content(copy).exists():
                self._hand(job, name, job.content(copy), copy.sender, copy.recipients)
            else:
                return True
        except NotTaken as problem:
            level = logging.INFO if isinstance(problem, NotKnown) else logging.WARNING
            log.log(level, "the protected copy %s is not taken: %s", name, problem)
            if not (problem.for_good or late):
                return False
            if job.notice(copy).exists():  # not even that
                job.finished(copy)
                return True
            job.write_notice(copy, _notice(f"{name}n", copy, told, str(problem)))
            return self._one(job, copy, told, late=False)
        job.finished(copy)
        return True

    def _hand(self, job: Job, name: str, content: Path, sender: str, recipients: tuple[str, ...]) -> None:
        if (queue_id := job.marked(name)) is not None and self._has(job, name, queue_id):
            return
        try:
            self._hand_over(content, sender, recipients)
        except NotTaken as problem:
            if problem.for_good:
                job.unmark(name)
            elif job.marked(name) is not None:  # Postfix may have it, and did not come to say so
                raise NotKnown(f"it has passed, and then: {problem}") from problem
            raise

    def _has(self, job: Job, name: str, queue_id: str) -> bool:
        """Whether Postfix has the copy that passed, and who handed it over did not hear of it. Raises NotKnown."""
        try:
            has = self._agent.has(queue_id)
            if has is False:
                job.unmark(name)  # first: a mark without an answer is asked for again
            if has is not None:
                self._agent.forget(queue_id)
        except OSError as problem:
            raise NotKnown(f"the agent cannot be asked: {problem}") from problem
        if has is None:
            raise NotKnown(f"it has passed as {queue_id}, and whether Postfix took it is being found out")
        log.info(
            "the protected copy %s passed as %s, and Postfix %s",
            name,
            queue_id,
            "has it" if has else "has not",
        )
        return has


def _notice(name: str, copy: Copy, told: str, words: str) -> bytes:
    """That a copy was not taken (RFC 3464, in words only)."""
    domain = told.rpartition("@")[2]
    sender = srs.plain(domain)
    made = EmailMessage(policy=SMTP)
    made[protected.NAME] = protected.header(name, sender)
    made["From"] = f"Mail Delivery System <{sender}>"
    made["To"] = f"<{told}>"
    made["Subject"] = "Undelivered mail: a message with protected attachments"
    made["Date"] = formatdate()
    made["Message-ID"] = make_msgid(domain=domain)
    made["Auto-Submitted"] = "auto-replied"
    made.set_content(
        "Your message was accepted, its attachments were protected, and then it could not be sent to\n\n"
        f"{''.join(f'  {each}{chr(10)}' for each in copy.recipients)}\nWhy: {words}\n",
        charset="utf-8",
        cte="quoted-printable",
    )
    return made.as_bytes()


# -- in a worker


@cache
def _courier(_pid: int) -> tuple[Courier, ThreadPoolExecutor]:
    return Courier(), ThreadPoolExecutor(1, thread_name_prefix="courier")


def soon(job: Job) -> None:
    """Hand its copies over besides what the event loop does."""
    courier, thread = _courier(os.getpid())
    thread.submit(courier.deliver, job)


async def keep_looking() -> None:
    """For the life of a worker. Where nothing has ever been protected or held it looks for two folders and no more."""
    courier, thread = _courier(os.getpid())
    quarantine = Quarantine()
    held = functools.partial(released.settle, quarantine, asked.Agent())
    while True:
        for folder, look in ((SPOOL / "outgoing", courier.look), (quarantine.messages, held)):
            if folder.exists():
                try:
                    await asyncio.get_running_loop().run_in_executor(thread, look)
                except Exception:  # whatever it is, the next look is another try
                    log.exception("what waits in %s cannot be looked at now", folder)
        await asyncio.sleep(LOOK_EVERY)
