"""The door to the page: a unix socket at which it hands a link's token and the passwords over, and hears one word.

One JSON line in, one out. Whoever can use the socket can try passwords and nothing else: no word of a message is told,
and a link that does not exist, is over or has been used is answered as a wrong password is, in the same time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from todoku.protect.held import ROOT
from todoku.quarantine.keeper import Keeper
from todoku.quarantine.tries import Tries

log = logging.getLogger("todoku.quarantine")

DOOR = ROOT / "door"
SOCKET = DOOR / "socket"
LONGEST = 16 * 1024  # bytes of a question
MOST_PASSWORDS = 5
_AT_ONCE = 2  # messages that are looked into
_WAITING = 20  # questions
_NO_SOONER = 0.5  # seconds, for an answer that opens nothing
_LOOK_EVERY = 1.0

Sleep = Callable[[float], Awaitable[None]]


class Service:
    """For one event loop. `no_sooner` is for tests."""

    def __init__(self, keeper: Keeper, tries: Tries | None = None, no_sooner: float = _NO_SOONER) -> None:
        self._keeper = keeper
        self._tries = tries or Tries()
        self._no_sooner = no_sooner
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="checking")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="looking")
        self._open = 0
        self._under_way: dict[str, asyncio.Task[str]] = {}

    async def serve(self, path: Path = SOCKET) -> None:
        with suppress(FileNotFoundError):
            path.unlink()
        server = await asyncio.start_unix_server(self._talk, str(path), limit=LONGEST)
        path.chmod(0o660)  # its group, the page's, is the folder's (set-group-id)
        async with server:
            await self._keep_looking()

    async def _keep_looking(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._looking, self._keeper.look)
            except Exception:  # a full disk, say: the door stays open, and it is looked again
                log.exception("the quarantine cannot be looked after now")
            self._tries.tidy(time.monotonic())
            await asyncio.sleep(_LOOK_EVERY)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(10):
                line = await reader.readline()
            outcome = "later" if self._open > _WAITING else await self._asked(line)
            writer.write(json.dumps({"outcome": outcome}).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TimeoutError) as problem:
            log.warning("a question of the page cannot be answered: %s", problem)
        finally:
            self._open -= 1
            writer.close()

    async def _asked(self, line: bytes) -> str:
        """ValueError for what is no question."""
        asked = json.loads(line)
        token, passwords = asked["token"], asked["passwords"]
        if not isinstance(token, str) or not isinstance(passwords, list) or len(passwords) > MOST_PASSWORDS:
            raise ValueError("no question")
        began = time.monotonic()
        outcome = await self.answer(token, [each for each in passwords if isinstance(each, str)])
        if outcome == "wrong":
            await asyncio.sleep(max(0.0, began + self._no_sooner - time.monotonic()))
        return outcome

    async def answer(self, token: str, passwords: list[str]) -> str:
        """One of `checking.Outcome`, or "too-often". What is under way goes on when nobody waits for it any more."""
        found, now = self._keeper.find(token), time.monotonic()
        if not self._tries.allows(token, now):
            return "too-often"
        if found is None:
            self._tries.wrong(token, now, real=False)
            return "wrong"
        if token not in self._under_way:
            task = asyncio.get_running_loop().create_task(self._look_into(token, passwords))
            self._under_way[token] = task
            task.add_done_callback(lambda _: self._under_way.pop(token, None))
        return await asyncio.shield(self._under_way[token])

    async def _look_into(self, token: str, passwords: list[str]) -> str:
        found = self._keeper.find(token)
        if found is None:
            return "wrong"
        loop = asyncio.get_running_loop()
        try:
            verdict = await loop.run_in_executor(self._threads, self._keeper.release, *found, passwords)
        except OSError as problem:  # the disk is full, say: nothing has been decided
            log.error("%s: cannot be released now: %s", found[0].id, problem)
            return "later"
        if verdict.outcome == "wrong":
            self._tries.wrong(token, time.monotonic(), real=True)
        return verdict.outcome
