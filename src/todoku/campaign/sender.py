"""The sender: takes what is due, as fast as is allowed, and writes what the relay says of each.

One process at a time; a lock of the machine, or of PostgreSQL, sees to that. All connections are of one event loop,
the database has one thread. A message is rendered when its turn has come, so that memory does not grow with a
campaign. A row that cannot be filled in fails alone; a relay that refuses us stops the campaign.
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

from todoku.campaign import campaigns, health, rows, sole
from todoku.campaign.letters import letter_of
from todoku.campaign.message import Letter
from todoku.campaign.opened import Opened
from todoku.campaign.pace import Pace
from todoku.campaign.relay import SUPPRESSED, BeforeContent, NotConnected, Refused, Relay, Server
from todoku.campaign.replies import Reply
from todoku.campaign.rows import Leased, Result
from todoku.campaign.template import TemplateFault
from todoku.campaign.writer import Writer
from todoku.gate.limits import Busy, Limits

log = logging.getLogger("todoku.campaign")

AGAIN = 300.0  # seconds after the first 4xx; doubled each time
_AGAIN_AT_MOST = 4 * 3600.0
TRIES = 10  # that is more than a day
_UNANSWERED = 60.0  # seconds until a message whose answer was not heard is tried again
_BATCH = 200
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


class Sender:
    """`run` until `stop`. Raises `StoreError` when the database cannot be used."""

    def __init__(self, opened: Opened, server: Server, limits: Limits) -> None:
        self._opened, self._server = opened, server
        self._pace = Pace(opened.wanted, limits)
        self._thread = ThreadPoolExecutor(1, "database")
        self._writer = Writer(self._write, self._thread)
        self._lines = [_Line() for _ in range(opened.wanted.connections)]
        self._letters: dict[int, Letter] = {}
        self._stopping = asyncio.Event()
        self._why_waiting = ""
        # What became of the campaign that is being sent: counted once, and on from there.
        self._tallied, self._tally = 0, Counter[str]()

    def stop(self) -> None:
        """What is on its way is waited for."""
        self._stopping.set()

    async def run(self, *, until_idle: bool = False) -> None:
        """`until_idle`: return when nothing is due any more, whenever the next is."""
        release = await self._alone()
        if release is None:
            return
        await self._in_thread(self._begin)
        try:
            while not self._stopping.is_set():
                wait = await self._step()
                if wait > 0 and until_idle:
                    return
                await self._pause(wait)
        finally:
            await asyncio.gather(*(line.relay.quit() for line in self._lines if line.relay is not None))
            await self._in_thread(release)
            self._thread.shutdown()

    async def _alone(self) -> sole.Release | None:
        """Waits until nobody else sends. None: told to stop meanwhile."""
        said = False
        while not self._stopping.is_set():
            if release := await self._in_thread(lambda: sole.hold(self._opened.engine)):
                return release
            if not said:
                log.warning("another process sends: this one waits until it has ended")
            said = True
            await self._pause(_IDLE)
        return None

    def _begin(self) -> None:
        with self._opened.write() as connection:
            released = rows.release_all(connection)
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

    async def _step(self) -> float:
        """One batch; how long to wait then, in seconds."""
        now = self._opened.clock()
        found = await self._in_thread(self._next_campaign)
        if found is None:
            return _IDLE
        try:
            allowed = await self._in_thread(lambda: self._pace.allow(_BATCH, now))
        except (Busy, sqlite3.Error) as error:
            log.warning("the gate's counters cannot be used: %s", error)
            return _IDLE
        if not allowed.count:
            if allowed.until - now > _IDLE and allowed.words != self._why_waiting:
                log.info("nothing is sent for %.0f s: %s", allowed.until - now, allowed.words)
            self._why_waiting = allowed.words
            return min(_IDLE, max(0.01, allowed.until - now))
        self._why_waiting = ""
        batch = await self._in_thread(lambda: self._lease(found, allowed.count, now))
        unused = allowed.count - len(batch.jobs)
        await self._send(batch)
        if not batch.refused:
            batch.refused = await self._in_thread(lambda: self._judge(batch))
        if unused + batch.unsent:
            back = unused + batch.unsent
            try:
                await self._in_thread(lambda: self._pace.give_back(back, self._opened.clock()))
            except (Busy, sqlite3.Error) as error:
                log.warning("the gate's counters cannot be used: %s", error)
        return max(0.0, batch.hold_until - self._opened.clock())

    # -- the database, in its thread

    def _next_campaign(self) -> Any:
        now = self._opened.clock()
        with self._opened.write() as connection:
            for name in rows.finish(connection, now):
                log.info("the campaign %s is finished", name)
            found = rows.current(connection, now)
        return found[0] if found else None

    def _lease(self, campaign: Any, most: int, now: float) -> _Batch:
        if campaign.id not in self._letters:
            self._letters[campaign.id] = letter_of(self._opened, campaign)
        if campaign.id != self._tallied:
            with self._opened.read() as connection:
                before = campaigns.numbers(connection, campaign.id)
            self._tallied, self._tally = campaign.id, Counter(sent=before.sent, failed=before.failed)
        with self._opened.write() as connection:
            jobs = rows.lease(connection, campaign.id, most, now)
        return _Batch(campaign.id, campaign.name, self._letters[campaign.id], jobs)

    def _write(self, results: Sequence[Result]) -> None:
        with self._opened.write() as connection:
            rows.write(connection, results)
            self._pace.keep(connection, self._opened.clock())
        self._tally.update(each.state for each in results)

    def _judge(self, batch: _Batch) -> str:
        """Whether it goes on: why not, when it has stopped itself."""
        return health.judge(self._opened, batch.campaign, batch.name, self._tally)

    async def _in_thread(self, work: Callable[[], T]) -> T:
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
            await self._in_thread(lambda: health.stop(self._opened, batch.campaign, batch.name, refused))

    async def _carry(self, line: _Line, waiting: list[Leased], batch: _Batch) -> None:
        """One connection's share: one message after the other, each with its result on the disk before the next."""
        while waiting:
            job = waiting.pop()
            now = self._opened.clock()
            if batch.refused or batch.hold_until > now or self._stopping.is_set():
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
        sender, to = self._opened.wanted.envelope_sender, job.person.address
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
