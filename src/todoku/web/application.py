"""The ASGI application: the routes, and around them what holds for every answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from todoku.web.attachments import Desk
from todoku.web.codes import Rate
from todoku.web.pages import Pages

log = logging.getLogger("todoku.web")

# Nothing but what the page itself brings; nothing is kept, shown elsewhere, guessed or told to others.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_LONGEST_URL = 2000
READS, WRITES = 600, 30  # requests a minute of one client


def application(desk: Desk, reads: int = READS, writes: int = WRITES) -> ASGIApp:
    app = Starlette(
        routes=desk.routes(),
        exception_handlers={
            404: lambda request, _: desk.pages.nothing(request),
            405: lambda request, _: desk.pages.nothing(request),
            500: lambda request, _: desk.pages.damaged(request),
        },
    )
    app.router.redirect_slashes = False
    return _Around(app, desk.pages, Rate(reads), Rate(writes))


class _Around:
    """Limits what one client may ask, and puts the headers on every answer."""

    def __init__(
        self,
        app: ASGIApp,
        pages: Pages,
        reads: Rate,
        writes: Rate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._pages = pages
        self._reads = reads
        self._writes = writes
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = HEADERS if b"cache-control" in there else HEADERS | {"Cache-Control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in more.items()),
                ]
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, sending)

    def _refusal(self, scope: Scope) -> Response | None:
        request = Request(scope)
        client = scope["client"][0] if scope.get("client") else ""
        writes = scope["method"] not in ("GET", "HEAD")
        if not (self._writes if writes else self._reads).allows(client, self._clock()):
            return self._pages.too_many(request)
        if len(scope["raw_path"]) + len(scope["query_string"]) > _LONGEST_URL:
            return self._pages.nothing(request)
        # A form of another site's, which browsers tell: there is no reason for one.
        if writes and request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return self._pages.nothing(request)
        return None
