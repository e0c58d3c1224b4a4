"""The picture that says that a message was opened, and the links that lead over us: routes beside the subscriptions'.

Where a link leads, the database says, so nobody can have us redirect to anywhere else. HEAD and what a program fetches
beforehand are answered and not counted. Whatever cannot be written down: people still get where they wanted to go.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from todoku.campaign import tracking
from todoku.campaign.opened import Opened
from todoku.campaign.tokens import Link
from todoku.campaign.tracking import CLICKED, OPENED
from todoku.store import StoreError

log = logging.getLogger("todoku.pages")

# One transparent pixel.
_PICTURE = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


class Reactions:
    """Over one database."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def routes(self) -> list[Route]:
        return [
            Route(f"/{OPENED}/{{token}}", self.opened, methods=["GET"]),
            Route(f"/{CLICKED}/{{number:int}}/{{token}}", self.clicked, methods=["GET"]),
        ]

    async def opened(self, request: Request) -> Response:
        link = self._opened.keys.opened(request.path_params["token"], OPENED)
        if link is None:
            return Response(status_code=404, headers=_HEADERS)
        await asyncio.to_thread(self._note, request, link, 0)
        return Response(_PICTURE, media_type="image/gif", headers=_HEADERS)

    async def clicked(self, request: Request) -> Response:
        number = request.path_params["number"]
        link = tracking.who_clicked(self._opened.keys, request.path_params["token"], number)
        target = None if link is None else await asyncio.to_thread(self._target, link, number)
        if link is None or target is None:
            return Response(
                "This link cannot be used.\nこのリンクは使えません。\n", 404, _HEADERS, "text/plain"
            )
        await asyncio.to_thread(self._note, request, link, number)
        return RedirectResponse(target, 302, _HEADERS)

    def _target(self, link: Link, number: int) -> str | None:
        with self._opened.read() as connection:
            return tracking.target(connection, link, number)

    def _note(self, request: Request, link: Link, number: int) -> None:
        beforehand = request.headers.get("sec-purpose", request.headers.get("purpose", ""))
        if request.method != "GET" or "prefetch" in beforehand:
            return
        machine = tracking.is_machine(request.headers.get("user-agent", ""))
        try:
            tracking.note(self._opened, link, number, machine=machine)
        except StoreError as error:
            log.warning("what somebody opened or clicked on is not counted: %s", error)
