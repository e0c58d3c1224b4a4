"""Results are written together: whoever has one waits for the commit that has it, and one commit serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from todoku.campaign.rows import Result

Write = Callable[[Sequence[Result]], None]


class Writer:
    """`write` runs in a thread of its own, never twice at the same time."""

    def __init__(self, write: Write, thread: ThreadPoolExecutor) -> None:
        self._write, self._thread = write, thread
        self._waiting: list[tuple[Result, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def put(self, result: Result) -> None:
        """Returns once it is on the disk. Raises what `write` raises."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((result, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            together, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._thread, self._write, [result for result, _ in together])
            except BaseException as error:
                for _, done in together:
                    if not done.done():
                        done.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                continue
            for _, done in together:
                if not done.done():
                    done.set_result(None)
