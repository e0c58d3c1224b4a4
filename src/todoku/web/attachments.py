"""The recipient's way from the link to the file, and the sender's to take it back.

GET and HEAD change nothing and tell nothing: mail scanners follow every link. A link that does not exist, is over or
was taken back gets the same pages, answers and times as one that is good and for which no code was shown.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import smtplib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from todoku.protect import sealing, wording
from todoku.protect.letters import Send
from todoku.protect.object_store import NoSuchObject, StoreFailed
from todoku.protect.shelf import Kept, Link, Shelf
from todoku.protect.wording import Letter
from todoku.web import ranges
from todoku.web.codes import Codes, Sessions
from todoku.web.forms import small_form
from todoku.web.held import Ask, HeldDesk, at_the_door
from todoku.web.pages import Pages

log = logging.getLogger("todoku.web")

_AT_ONCE = 32  # pieces that are waited for from the store
COOKIE = "todoku"


@dataclass(slots=True)
class Desk:
    """Everything that a request needs."""

    shelf: Shelf
    send: Send
    pages: Pages = field(default_factory=Pages)
    codes: Codes = field(default_factory=Codes)
    sessions: Sessions = field(default_factory=Sessions)
    ask_quarantine: Ask = at_the_door
    clock: Callable[[], float] = time.time
    under_way: set[asyncio.Task[None]] = field(default_factory=set)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)  # link -> file -> how often fetched

    def routes(self) -> list[Route]:
        return [
            Route("/a/{token}", self.open, methods=["GET"]),
            Route("/a/{token}/code", self.mail_code, methods=["POST"]),
            Route("/a/{token}/open", self.show_code, methods=["POST"]),
            Route("/a/{token}/{number:int}", self.fetch, methods=["GET"]),
            Route("/r/{token}", self.ask_back, methods=["GET"]),
            Route("/r/{token}", self.take_back, methods=["POST"]),
            *HeldDesk(self.pages, self.ask_quarantine).routes(),
            Route("/style.css", self.pages.style, methods=["GET"]),
            Route("/robots.txt", self.pages.robots, methods=["GET"]),
        ]

    # -- the recipient

    async def open(self, request: Request) -> Response:
        """What is there, for who has shown a code; else how to get one."""
        link = self._shown(request)
        if link is None:
            return self.pages.ask(request)
        counts = [self._fetched(link, number) for number in range(len(link.files))]
        return self.pages.files(request, link, counts)

    async def mail_code(self, request: Request) -> Response:
        """The mail is sent besides the answer, so that neither its words nor its time tell anything."""
        link = self.shelf.find(request.path_params["token"], self.clock())
        if link is not None and (code := self.codes.new(link.id, self.clock())):
            self._besides(link, "code sent", link.recipient, wording.code(link.language, code))
        return self.pages.asked(request)

    async def show_code(self, request: Request) -> Response:
        given = (await small_form(request)).get("code", "")
        given = "".join(c for c in given if c.isalnum())
        link = self.shelf.find(request.path_params["token"], self.clock())
        if link is None or not self.codes.use(link.id, given, self.clock()):
            if link is not None:
                await asyncio.to_thread(self.shelf.note, link.offer, "wrong code", link=link.id)
            return self.pages.asked(request, wrong=True)
        await asyncio.to_thread(self.shelf.note, link.offer, "code shown", link=link.id)
        path = f"/a/{request.path_params['token']}"
        answer = RedirectResponse(f"{path}{self.pages.language_query(request)}", 303)
        cookie = self.sessions.new(link.id, self.clock())
        answer.set_cookie(COOKIE, cookie, path=path, secure=True, httponly=True, samesite="strict")
        return answer

    async def fetch(self, request: Request) -> Response:
        """One file, or a part of it."""
        link, number = self._shown(request), int(request.path_params["number"])
        if link is None:
            return self.pages.ask(request, 403)
        if number >= len(link.files):
            return self.pages.nothing(request)
        kept = link.files[number]
        try:
            part = ranges.asked(request.headers.get("range"), kept.octets)
        except ranges.NotSatisfiable:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{kept.octets}"})
        headers = _headers(kept, part)
        status = 200 if part is None else 206
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        begins = part is None or part[0] == 0
        fetched = self._fetched(link, number)
        if begins and fetched >= link.downloads:
            return self.pages.used_up(request)
        start, end = part or (0, kept.octets)
        near = self.shelf.is_near(kept)
        pieces = self.shelf.content(kept, start, end)
        following = functools.partial(next, pieces, b"")
        try:  # what is wrong with the file shows before the answer begins
            first = following() if near else await _elsewhere(following)
        except StoreFailed as problem:
            log.error("an attachment cannot be handed out: %s", problem)
            gone = isinstance(problem, NoSuchObject)
            return self.pages.damaged(request) if gone else self.pages.not_now(request)
        except (OSError, sealing.Damaged) as problem:
            log.error("an attachment cannot be handed out: %s", problem)
            return self.pages.damaged(request)
        if begins:
            await self._note_fetch(link, number, kept)
        return StreamingResponse(
            _sent(first, pieces) if near else _relayed(first, following), status, headers
        )

    async def _note_fetch(self, link: Link, number: int, kept: Kept) -> None:
        counts = self._counts(link)
        before = any(counts.values())
        counts[number] = counts.get(number, 0) + 1
        note = functools.partial(self.shelf.note, link.offer, "fetched", link=link.id, file=number)
        await asyncio.to_thread(note, recipient=link.recipient)
        if not before:
            letter = wording.first_download(
                link.language, link.recipient, kept.name, link.subject, self.clock()
            )
            self._besides(link, "sender told", link.sender, letter)

    def _shown(self, request: Request) -> Link | None:
        """The link, if the browser has shown a code for it."""
        now = self.clock()
        link = self.shelf.find(request.path_params["token"], now)
        cookie = request.cookies.get(COOKIE, "")
        return link if link is not None and self.sessions.holds(link.id, cookie, now) else None

    def _fetched(self, link: Link, number: int) -> int:
        return self._counts(link).get(number, 0)

    def _counts(self, link: Link) -> dict[int, int]:
        """From the events at first; from then on this process knows, as nobody else hands anything out."""
        if link.id not in self.counts:
            fetched = (
                event
                for event in self.shelf.events(link.offer)
                if event["what"] == "fetched" and event.get("link") == link.id
            )
            self.counts[link.id] = dict(Counter(event["file"] for event in fetched))
        return self.counts[link.id]

    def tidy(self) -> int:
        """Removes what is over; how many files that were."""
        gone = self.shelf.tidy(self.clock())
        self.codes.tidy(self.clock())
        for link in list(self.counts):
            if not self.shelf.path("links", f"{link}.json").exists():
                self.counts.pop(link, None)
        return gone

    # -- the sender

    async def ask_back(self, request: Request) -> Response:
        return self.pages.ask_back(request)

    async def take_back(self, request: Request) -> Response:
        offer = self.shelf.find_offer(request.path_params["token"])
        if offer is not None and not self.shelf.is_revoked(offer.id):
            await asyncio.to_thread(self.shelf.revoke, offer)
            await asyncio.to_thread(self.shelf.note, offer.id, "taken back")
        return self.pages.taken_back(request)

    # -- besides

    def _besides(self, link: Link, what: str, recipient: str, letter: Letter) -> None:
        task = asyncio.get_running_loop().create_task(self._mail(link, what, recipient, letter))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _mail(self, link: Link, what: str, recipient: str, letter: Letter) -> None:
        try:
            await asyncio.to_thread(self.send, recipient, letter)
            await asyncio.to_thread(self.shelf.note, link.offer, what, link=link.id, recipient=recipient)
        except (OSError, smtplib.SMTPException) as problem:
            log.error("a mail about an attachment is not taken: %s", problem)


async def _sent(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)  # many at once: each gets its turn


async def _relayed(first: bytes, following: Callable[[], bytes]) -> AsyncIterator[bytes]:
    """From the store. What it does not give any more cuts the answer off, which a browser sees by its length."""
    while first:
        yield first
        first = await _elsewhere(following)


async def _elsewhere(work: Callable[[], bytes]) -> bytes:
    """In a thread: others' requests do not wait for the store."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="store")


def _headers(kept: Kept, part: tuple[int, int] | None) -> dict[str, str]:
    ascii_name = "".join(c if (c.isascii() and c.isalnum()) or c in " ._-()" else "_" for c in kept.name)
    start, end = part or (0, kept.octets)
    headers = {
        "Content-Type": "application/octet-stream",  # whatever it is: nothing is opened within the page
        "Content-Disposition": f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(kept.name, safe='')}",
        "Content-Length": str(end - start),
        "Accept-Ranges": "bytes",
        "ETag": f'"{kept.object[:32]}"',
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{kept.octets}"
    return headers
