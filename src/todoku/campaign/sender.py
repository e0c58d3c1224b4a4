"""The sender: takes what is due, as fast as is allowed, and writes what the relay says of each.

With SQLite one process at a time, which a lock sees to; with PostgreSQL any number (`workers`). All connections are
of one event loop, the database has one thread. A message is rendered when its turn has come, so that memory does not
grow with a campaign. A row that cannot be filled in fails alone; a relay that refuses us stops the campaign.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from todoku.campaign import campaigns, health, leases, rows, sole, trial
from todoku.campaign.letters import letter_of
from todoku.campaign.message import Letter
from todoku.campaign.opened import Opened
from todoku.campaign.pace import Pace
from todoku.campaign.relay import SUPPRESSED, BeforeContent, NotConnected, Refused, Relay, Server
from todoku.campaign.replies import Reply
from todoku.campaign.rolled_back import LastSent
from todoku.campaign.rows import Leased, Result
from todoku.campaign.shared_pace import SharedPace
from todoku.campaign.template import TemplateFault
from todoku.campaign.writer import Writer
from todoku.gate.limits import Limits
from todoku.gate.spent import Busy

log = logging.getLogger("todoku.campaign")

AGAIN = 300.0  # seconds after the first 4xx; doubled each time
_AGAIN_AT_MOST = 4 * 3600.0
TRIES = 10  # that is more than a day
_UNANSWERED = 60.0  # seconds until a message whose answer was not heard is tried again
_BATCH, _LARGEST_BATCH = (
    200,
    2000,
)  # rows that are leased together, when one of them takes _SHORT seconds at most
_SHORT = 0.5
_IDLE = 5.0  # seconds between two looks for something to do
_BACKOFF = (1.0, 5.0, 15.0, 60.0, 300.0)  # seconds until the next connection after a failed one
_FULL = {"minute": 60.0, "day": 3600.0}  # seconds to wait after the relay's 455

T = TypeVar("T")


@dataclass(slots=True)
class _Line:
    """One kept-open connection."""

    relay: Relay | None = None
    failures: int = 0

    def drop(self) -> None:
        if self.relay is not None:
            self.relay.drop()
        self.relay = None


@dataclass(slots=True)
class _Batch:
    """What was leased of one campaign. `refused`: why it stops."""

    campaign: int
    name: str
    letter: Letter
    jobs: list[Leased]
    refused: str = ""
    hold_until: float = 0.0
    unsent: int = 0
    term: int = 0
    sent_at: float = 0.0  # the last of them


class Sender:
    """`run` until `stop`. Raises `StoreError` when the database cannot be used.

    `lease`: seconds after which others take over what a worker had that is no more (PostgreSQL).
    """

    def __init__(self, opened: Opened, server: Server, limits: Limits, lease: float = leases.SECONDS) -> None:
        self._opened, self._server = opened, server
        self.held = leases.Held(lease) if opened.is_shared else None
        self._pace = (
            Pace(opened.wanted, limits) if self.held is None else SharedPace(opened, limits, self.held.owner)
        )
        self._thread = ThreadPoolExecutor(1, "database")
        self._writer = Writer(self._write, self._thread)
        self._last_sent = LastSent(opened.state)
        self._lines = [_Line() for _ in range(opened.wanted.connections)]
        self._letters: dict[int, Letter] = {}
        self._stopping = asyncio.Event()
        self._why_waiting = ""
        self._batch = _BATCH
        # What became of the campaign that is being sent: counted once, and on from there.
        self._tallied, self._tally = 0, Counter[str]()

    def stop(self) -> None:
        """What is on its way is waited for."""
        self._stopping.set()

    async def run(self, *, until_idle: bool = False) -> None:
        """`until_idle`: return when nothing is due any more, whenever the next is."""
        if self.held is not None:
            from todoku.campaign import workers

            await workers.work(self, self._opened, self.held, until_idle=until_idle)
            return
        release = await self._alone()
        if release is None:
            return
        await self.in_thread(self._begin)
        try:
            while not self._stopping.is_set():
                wait = await self.step()
                if wait > 0 and until_idle:
                    return
                await self._pause(wait)
        finally:
            await self.end()
            release()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def until_stopped(self) -> None:
        await self._stopping.wait()

    async def end(self) -> None:
        await asyncio.gather(*(line.relay.quit() for line in self._lines if line.relay is not None))
        self._thread.shutdown()

    async def _alone(self) -> sole.Release | None:
        """Waits until nobody else sends. None: told to stop meanwhile."""
        said = False
        while not self._stopping.is_set():
            if release := await self.in_thread(lambda: sole.hold(self._opened.engine)):
                return release
            if not said:
                log.warning("another process sends: this one waits until it has ended")
            said = True
            await self._pause(_IDLE)
        return None

    def _begin(self) -> None:
        self._last_sent.check(self._opened)
        with self._opened.write() as connection:
            released = 0 if self._opened.is_shared else rows.release_all(connection)
            self._pace.load(connection, self._opened.clock())
        if released:
            log.info(
                "%d messages that were on their way when the last sender ended are tried again", released
            )

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def begin(self) -> None:
        await self.in_thread(self._begin)

    async def step(self, campaign: int | None = None) -> float:
        """One batch, of that campaign if it is said; how long to wait then, in seconds."""
        now = self._opened.clock()
        found = await self.in_thread(lambda: self._next_campaign(campaign))
        if found is None:
            return _IDLE
        try:
            allowed = await self.in_thread(lambda: self._pace.allow(self._batch, now))
        except (Busy, sqlite3.Error, OSError) as error:
            log.warning("what of the relay's plan is used cannot be counted: %s", error)
            return _IDLE
        if not allowed.count:
            if allowed.until - now > _IDLE and allowed.words != self._why_waiting:
                log.info("nothing is sent for %.0f s: %s", allowed.until - now, allowed.words)
            self._why_waiting = allowed.words
            return min(_IDLE, max(0.01, allowed.until - now))
        self._why_waiting = ""
        batch = await self.in_thread(lambda: self._lease(found, allowed.count, now))
        unused = allowed.count - len(batch.jobs)
        await self._send(batch)
        if batch.letter.bulk and batch.sent_at:
            self._last_sent.note(batch.sent_at)
        self._size_batch(len(batch.jobs), self._opened.clock() - now)
        if not batch.refused:
            batch.refused = await self.in_thread(lambda: self._judge(batch))
        if unused + batch.unsent:
            back = unused + batch.unsent
            try:
                # To the time that it was granted for: later, it would be room beyond the limit once that has passed.
                await self.in_thread(lambda: self._pace.give_back(back, now))
            except (Busy, sqlite3.Error, OSError) as error:
                log.warning("what of the relay's plan is used cannot be counted: %s", error)
        return max(0.0, batch.hold_until - self._opened.clock())

    def _size_batch(self, count: int, seconds: float) -> None:
        """What is leased still goes when somebody says pause: large batches only where they are soon sent."""
        if seconds > _SHORT:
            self._batch = max(_BATCH, self._batch // 2)
        elif count == self._batch:
            self._batch = min(_LARGEST_BATCH, self._batch * 2)

    # -- the database, in its thread

    def due(self) -> Sequence[Any]:
        """The campaigns that have something to send now; what is finished is noted."""
        now = self._opened.clock()
        with self._opened.write() as connection:
            for name, words in trial.decide(connection, now):
                log.info("the test of the campaign %s: %s", name, words)
            rows.cancel_left(connection, now)
            for name in rows.finish(connection, now):
                log.info("the campaign %s is finished", name)
            return rows.current(connection, now)

    def _next_campaign(self, campaign: int | None) -> Any:
        return next((row for row in self.due() if campaign in (None, row.id)), None)

    def _lease(self, campaign: Any, most: int, now: float) -> _Batch:
        if campaign.id not in self._letters:
            self._letters[campaign.id] = letter_of(self._opened, campaign)
        if campaign.id != self._tallied:
            self._count(campaign.id)
        held = self.held
        with self._opened.write() as connection:
            jobs = rows.lease(connection, campaign.id, most, now, None if held is None else held.lease(now))
            self._pace.admit(connection, jobs, now)
        term = 0 if held is None else held.term
        return _Batch(campaign.id, campaign.name, self._letters[campaign.id], jobs, term=term)

    def _count(self, campaign: int) -> Counter[str]:
        with self._opened.read() as connection:
            found = campaigns.numbers(connection, campaign)
        self._tallied, self._tally = campaign, Counter(sent=found.sent, failed=found.failed)
        return self._tally

    def _write(self, results: Sequence[Result]) -> None:
        with self._opened.write() as connection:
            rows.write(connection, results, None if self.held is None else self.held.owner)
            self._pace.keep(connection, self._opened.clock())
        self._tally.update(each.state for each in results)

    def _judge(self, batch: _Batch) -> str:
        """Whether it goes on: why not, when it has stopped itself."""
        # Of several workers each has counted its own: before it stops, all are.
        recount = None if self.held is None else lambda: self._count(batch.campaign)
        return health.judge(self._opened, batch.campaign, batch.name, self._tally, recount)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- sending

    async def _send(self, batch: _Batch) -> None:
        waiting = list(reversed(batch.jobs))
        lines = self._lines[: max(1, len(waiting))]
        carried = await asyncio.gather(
            *(self._carry(line, waiting, batch) for line in lines), return_exceptions=True
        )
        for error in carried:
            if error is not None:  # of the database: nothing goes on without it
                raise error
        if batch.refused and not batch.letter.bulk:
            # Nobody starts those: they go on by themselves once the relay takes our mail again.
            batch.hold_until = max(batch.hold_until, self._opened.clock() + AGAIN)
            log.error("%s; tried again in %.0f s", batch.refused, AGAIN)
        elif batch.refused:
            refused = batch.refused
            await self.in_thread(lambda: health.stop(self._opened, batch.campaign, batch.name, refused))

    async def _carry(self, line: _Line, waiting: list[Leased], batch: _Batch) -> None:
        """One connection's share: one message after the other, each with its result on the disk before the next."""
        while waiting:
            job = waiting.pop()
            now = self._opened.clock()
            held = self.held is None or self.held.holds(batch.term)
            if batch.refused or batch.hold_until > now or self._stopping.is_set() or not held:
                await self._put_back(job, batch, batch.hold_until or now)
            elif until := self._pace.domain_until(job.domain, now):
                await self._put_back(job, batch, until)
            else:
                await self._writer.put(await self._try(line, job, batch))

    async def _put_back(self, job: Leased, batch: _Batch, due: float) -> None:
        batch.unsent += 1
        await self._writer.put(Result(job.id, "ready", self._opened.clock(), due=due, counts=False))

    async def _try(self, line: _Line, job: Leased, batch: _Batch) -> Result:
        words = ""
        try:
            content = batch.letter.write(job.person, self._opened.clock())
            reply = await self._tell(line, job, content)
            words = reply.words
            return self._result(job, reply, batch)
        except TemplateFault as error:
            batch.unsent += 1
            return Result(job.id, "failed", self._opened.clock(), words=str(error))
        except Refused as error:
            line.drop()
            batch.unsent += 1
            if error.reply.never:
                batch.refused = str(error)
            return self._later(job, error.reply, batch)
        except NotConnected as error:
            # Without a connection nothing was tried: an evening without the relay uses up nobody's tries.
            tried = line.relay is not None
            line.drop()
            return self._not_connected(line, job, batch, error, counts=tried)
        finally:
            self._pace.arrived(job.domain, words, self._opened.clock())

    async def _tell(self, line: _Line, job: Leased, content: bytes) -> Reply:
        if line.relay is not None and line.relay.is_over:
            line.drop()
        sender, to = self._opened.return_address(job.id), job.person.address
        reply: Reply | None = None
        if line.relay is not None:
            with suppress(BeforeContent):  # it was idle for too long, and is closed at this very moment
                reply = await line.relay.send(sender, to, content)
        if reply is None:
            line.drop()
            line.relay = await Relay.connect(self._server)
            reply = await line.relay.send(sender, to, content)
        line.failures = 0
        return reply

    def _result(self, job: Leased, reply: Reply, batch: _Batch) -> Result:
        now = self._opened.clock()
        if reply.code == SUPPRESSED:
            return Result(job.id, "suppressed", now, reply.code, reply.words)
        if reply.code // 100 == 2:
            batch.sent_at = now
            return Result(job.id, "sent", now, reply.code)
        if reply.later and job.attempts + 1 < TRIES:
            return self._later(job, reply, batch)
        return Result(job.id, "failed", now, reply.code, reply.words)

    def _later(self, job: Leased, reply: Reply, batch: _Batch) -> Result:
        """455 and the like are about us, and hold everything; other 4xx about this recipient."""
        now = self._opened.clock()
        if reply.code == 455:
            wait = next((seconds for word, seconds in _FULL.items() if f"per {word}" in reply.words), 60.0)
            batch.hold_until = max(batch.hold_until, now + wait)
            log.warning("the relay takes no more for now: %s", reply)
            return Result(job.id, "ready", now, reply.code, reply.words, due=now + wait, counts=False)
        if reply.never:  # of us: when somebody has looked and the campaign is started again
            return Result(job.id, "ready", now, reply.code, reply.words, due=now, counts=False)
        wait = min(_AGAIN_AT_MOST, AGAIN * 2**job.attempts)
        return Result(job.id, "deferred", now, reply.code, reply.words, due=now + wait)

    def _not_connected(
        self, line: _Line, job: Leased, batch: _Batch, error: NotConnected, *, counts: bool
    ) -> Result:
        """It may have been taken: with the same Message-ID the other side can tell."""
        wait = _BACKOFF[min(line.failures, len(_BACKOFF) - 1)]
        line.failures += 1
        if line.failures == 1 or line.failures % 10 == 0:
            log.warning("%s; tried again in %.0f s", error, wait)
        now = self._opened.clock()
        batch.hold_until = max(batch.hold_until, now + wait)
        due = now + max(wait, _UNANSWERED)
        return Result(job.id, "deferred", now, None, str(error), due=due, counts=counts)
