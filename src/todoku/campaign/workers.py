"""Several workers, on any number of machines, share what is to be sent through PgQueuer, a queue in PostgreSQL.

A job is "send what is due of this campaign", for a turn of some seconds: the queue hands it to a worker that is free,
wakes workers up, lets a job wait until the pace has room, and gives the job of a worker that has died to another one.
Which message goes to whom is not in the queue: the row of each recipient says it, and is leased for as long as its
worker can reach the database (`leases`). So a job that is lost or run twice loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from todoku.campaign import rows
from todoku.campaign.errors import CampaignError
from todoku.campaign.leases import DatabaseClock, Held, machine_clock
from todoku.campaign.opened import Opened
from todoku.store import StoreError, ledger
from todoku.store import campaign as store
from todoku.store import campaign_schema as schema

if TYPE_CHECKING:
    from pgqueuer import QueueManager
    from pgqueuer.models import Job
    from pgqueuer.queries import Queries

    from todoku.campaign.sender import Sender

log = logging.getLogger("todoku.campaign")

TURN = 5.0  # seconds that a job is worked on; then it goes to the end of the queue
LOOK = 5.0  # seconds between two looks for campaigns
_POLL = 0.25  # seconds between two questions for a job when it is known that there is one
_TIMEOUT = 15.0  # seconds for an answer of the queue's connection
_ENTRY = "todoku_campaign"  # the queue's name for these jobs
_IN_A_HURRY = 1  # the priority of answers to forms


async def work(sender: Sender, opened: Opened, held: Held, *, until_idle: bool = False) -> None:
    """As `Sender.run`. Raises `StoreError`, and CampaignError when this machine has another key than the others."""
    try:
        import asyncpg
        import pgqueuer
        from pgqueuer.queries import Queries
        from pgqueuer.types import QueueExecutionMode
    except ImportError as error:
        raise StoreError(
            f"campaigns in PostgreSQL are shared through PgQueuer, which is not installed ({error}): "
            "pip install 'todoku[postgresql]'"
        ) from error
    logging.getLogger("pgqueuer").setLevel(logging.ERROR)
    logging.getLogger("pgqueuer").addFilter(_without_traceback)
    await sender.in_thread(lambda: _check_key(opened))
    await sender.in_thread(lambda: _renew(opened, held))
    await sender.begin()
    broken = (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        pgqueuer.errors.PgqException,
    )
    tasks: list[asyncio.Task[Any]] = []
    try:
        connection = await asyncpg.connect(
            **ledger.for_asyncpg(opened.engine), timeout=_TIMEOUT, command_timeout=_TIMEOUT
        )
        try:
            await connection.execute(store.GIVE_UP_WHO_IS_CUT_OFF)
            queries = Queries.from_asyncpg_connection(connection)
            await queries.upgrade()
            manager = _manager(queries)
            worker = _Worker(sender, opened, held, queries, until_idle)
            manager.entrypoint(_ENTRY, on_failure="delete")(worker.turn)
            await worker.look()
            tasks.append(asyncio.create_task(_keep(sender, opened, held)))
            tasks.append(asyncio.create_task(_shut_down(sender, manager)))
            if not until_idle:
                tasks.append(asyncio.create_task(worker.keep_looking()))
            running = asyncio.create_task(
                manager.run(
                    dequeue_timeout=timedelta(seconds=LOOK),
                    batch_size=1,
                    mode=QueueExecutionMode.drain if until_idle else QueueExecutionMode.continuous,
                    max_concurrent_tasks=2,
                    shutdown_on_listener_failure=True,
                    heartbeat_timeout=timedelta(seconds=held.seconds),
                    log_aggregation_interval=timedelta(0),
                )
            )
            await asyncio.wait([running, *tasks], return_when=asyncio.FIRST_COMPLETED)
            sender.stop()
            await asyncio.wait([running])
            for task in (running, *tasks):
                if task.done():
                    task.result()  # raises what it ended with
            worker.raise_failure()
        finally:
            for task in tasks:
                task.cancel()
            connection.terminate()
    except broken as error:
        raise StoreError(
            f"the queue in the campaign database could not be used: {str(error) or 'no answer'}"
        ) from error
    finally:
        await sender.end()


def _without_traceback(record: logging.LogRecord) -> bool:
    """Of the queue's own words: what made a worker end is said by itself, once."""
    record.exc_info = None
    return True


def _manager(queries: Queries) -> QueueManager:
    """One that takes no second job while it has one: that would wait here, while another worker has nothing to do."""
    from pgqueuer import QueueManager
    from pgqueuer.types import QueueEntrypoint

    class OneAtATime(QueueManager):
        def entrypoints_below_capacity_limits(self) -> set[QueueEntrypoint]:
            return set() if self.job_context else super().entrypoints_below_capacity_limits()

    manager = OneAtATime(queries)
    manager.min_dequeue_poll_interval = timedelta(seconds=_POLL)
    return manager


class _Worker:
    """What the queue calls."""

    def __init__(
        self, sender: Sender, opened: Opened, held: Held, queries: Queries, until_idle: bool
    ) -> None:
        self._sender, self._opened, self._held, self._queries = sender, opened, held, queries
        self._until_idle = until_idle
        self._rest_until: dict[int, float] = {}
        self._failure: BaseException | None = None

    async def look(self) -> None:
        """A job for each campaign that has something to send: one of each worker's, so that all of them have some."""
        for campaign in await self._sender.in_thread(self._sender.due):
            if time.monotonic() < self._rest_until.get(campaign.id, 0.0):
                continue
            await self._queries.enqueue(
                _ENTRY,
                str(campaign.id).encode(),
                priority=0 if campaign.kind == "bulk" else _IN_A_HURRY,
                dedupe_key=f"{campaign.id}/{self._held.owner}",
                on_conflict="skip",
            )

    async def keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self.look()

    async def turn(self, job: Job) -> None:
        """Sends of one campaign for a while. The queue has the job done again as long as something is due."""
        from pgqueuer.errors import RetryRequested

        assert job.payload is not None, "`look` says which campaign"  # noqa: S101
        campaign = int(job.payload)
        try:
            wait = await self._send(campaign)
        except BaseException as error:  # the queue would only log it
            self._failure = error
            self._sender.stop()
            raise
        if wait >= LOOK or self._until_idle:
            self._rest_until[campaign] = time.monotonic() + wait
        elif not self._sender.is_stopping:
            raise RetryRequested(delay=timedelta(seconds=wait))

    async def _send(self, campaign: int) -> float:
        end = time.monotonic() + TURN
        while not self._sender.is_stopping and (self._until_idle or time.monotonic() < end):
            wait = await self._sender.step(campaign)
            if wait > 0:
                return wait
        return 0.0

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


async def _keep(sender: Sender, opened: Opened, held: Held) -> None:
    while True:
        await asyncio.sleep(held.pause)
        await sender.in_thread(lambda: _renew(opened, held))


def _renew(opened: Opened, held: Held) -> None:
    begun = machine_clock()
    with opened.write() as connection:
        if isinstance(opened.clock, DatabaseClock):
            opened.clock.ask(connection)
        rows.renew(connection, held.lease(opened.clock()))
    held.renewed(begun)


async def _shut_down(sender: Sender, manager: QueueManager) -> None:
    await sender.until_stopped()
    manager.shutdown.set()


def _check_key(opened: Opened) -> None:
    """With another key the same person would get another Message-ID, and links that the pages do not know."""
    mine = opened.keys.digest("the key of all workers")
    table = schema.shared_pace
    with opened.write() as connection:
        connection.execute(update(table).where(table.c.key_digest.is_(None)).values(key_digest=mine))
        theirs = connection.execute(select(table.c.key_digest)).scalar_one()
    if theirs != mine:
        raise CampaignError(
            "the key of bulk mail on this machine is not that of the others which share this database: "
            "copy /var/lib/todoku/campaign/key from one of those"
        )
