"""What an SMTP server says, as replies (RFC 5321 4.2), several at a time.

A protocol and not a stream: of thousands of messages a second, each task that is woken for a line, and each timer for
it, is felt.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

_LONGEST_LINE, _MOST_LINES, _MOST = 4096, 100, 100
_LONGEST = 2000  # characters that are kept of a reply
_CODE = re.compile(r"[2-5][0-9]{2}(?:[ -]|$)")


@dataclass(frozen=True, slots=True)
class Reply:
    code: int
    words: str

    @property
    def later(self) -> bool:
        return self.code // 100 == 4

    @property
    def never(self) -> bool:
        return self.code // 100 == 5

    def __str__(self) -> str:
        return f"{self.code} {self.words}"


class Ended(Exception):
    """There are no more replies, or what came is none. `before`: those that came before."""

    def __init__(self, words: str, before: list[Reply]) -> None:
        super().__init__(words)
        self.before = before


class Replies(asyncio.Protocol):
    """Of one connection; one asks at a time."""

    def __init__(self) -> None:
        self._octets = b""  # the beginning of a line
        self._lines: list[str] = []  # of a reply that goes on
        self._found: list[Reply] = []
        self._end = ""  # why nothing comes any more
        self._wanted = 0
        self._waiting: asyncio.Future[None] | None = None

    @property
    def is_over(self) -> bool:
        return bool(self._end)

    @property
    def unasked(self) -> bool:
        """Whether something was said that nobody has asked for."""
        return bool(self._found or self._lines or self._octets)

    async def next(self, count: int, timeout: float) -> list[Reply]:
        """The next `count` within `timeout` seconds. Raises Ended."""
        if len(self._found) < count and not self._end:
            loop = asyncio.get_running_loop()
            self._wanted, self._waiting = count, loop.create_future()
            timer = loop.call_later(timeout, self._stop, "the connection to the relay broke: no answer")
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        found, self._found = self._found[:count], self._found[count:]
        if len(found) < count:
            raise Ended(self._end, found)
        return found

    # -- called by the event loop

    def data_received(self, data: bytes) -> None:
        if self._end:
            return
        *lines, self._octets = (self._octets + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._octets) > _LONGEST_LINE:
            self._line(self._octets)
        if len(self._found) > _MOST:
            self._stop("the relay says more than it is asked")
        if self._waiting is not None and len(self._found) >= self._wanted:
            self._wake()

    def eof_received(self) -> None:
        self._stop("the relay closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        self._stop(
            "the relay closed the connection"
            if error is None
            else f"the connection to the relay broke: {error}"
        )

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        if len(line) > _LONGEST_LINE or len(self._lines) > _MOST_LINES or not _CODE.match(text):
            self._stop(f"this is no reply: {text[:80]!r}")
        if self._end:
            return
        self._lines.append(text[4:])
        if text[3:4] != "-":
            self._found.append(Reply(int(text[:3]), "\n".join(self._lines)[:_LONGEST]))
            self._lines = []

    def _stop(self, why: str) -> None:
        self._end = self._end or why
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
