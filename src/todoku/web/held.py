"""The addressee's way to a message that is held for its password-protected ZIP.

There is no code by mail, as there is for attachments. The link is in the addressee's own mailbox and in no other,
this page shows nothing of the message, and all that it can bring about is that the message, once nothing was found in
it, goes to that same mailbox. Who got the link in another way needs the ZIP's password on top of it, and then has
sent the addressee his own mail. A code would be asked of the one who reads that mailbox, and told to whoever reads
it.

GET and HEAD change nothing and tell nothing. A link that does not exist, is over or was used is answered as a wrong
password is. This process cannot read what is held: it hands link and password over at a socket, and hears one word.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from todoku.protect.held import ROOT
from todoku.web.forms import small_form
from todoku.web.pages import Pages
from todoku.web.words import WORDS

log = logging.getLogger("todoku.web")

SOCKET = ROOT / "door/socket"
PATIENCE = 50.0  # seconds; proxies have 60
FIELDS = ("password", "second", "third")
_LONGEST_PASSWORD = 256  # characters
_STATUS = {"clean": 200, "malware": 200, "later": 503, "under-way": 202, "too-often": 429}

# A link's token and the passwords; the outcome as `todoku.quarantine` says it.
Ask = Callable[[str, Sequence[str]], Awaitable[str]]


async def at_the_door(token: str, passwords: Sequence[str], path: Path = SOCKET) -> str:
    """Asks the service that keeps held messages. OSError or ValueError when it does not answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(json.dumps({"token": token, "passwords": list(passwords)}).encode() + b"\n")
        outcome = json.loads(await reader.readline())["outcome"]
    finally:
        writer.close()
    if not isinstance(outcome, str) or f"held_{outcome}" not in WORDS["en"]:
        raise ValueError(f"{outcome!r} is no outcome")
    return outcome


@dataclass(slots=True)
class HeldDesk:
    """What requests about held messages need."""

    pages: Pages
    ask: Ask = at_the_door
    patience: float = PATIENCE

    def routes(self) -> list[Route]:
        return [
            Route("/h/{token}", self.show, methods=["GET"]),
            Route("/h/{token}", self.try_passwords, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The same for every link there could be."""
        return self.pages.held(request, "")

    async def try_passwords(self, request: Request) -> Response:
        form = await small_form(request)
        passwords = [form[name] for name in FIELDS if form.get(name)]
        if not passwords or any(len(each) > _LONGEST_PASSWORD for each in passwords):
            return self.pages.held(request, "wrong", 403)
        outcome = await self._outcome(request.path_params["token"], passwords)
        return self.pages.held(request, outcome, _STATUS.get(outcome, 403))

    async def _outcome(self, token: str, passwords: Sequence[str]) -> str:
        try:
            async with asyncio.timeout(self.patience):
                return await self.ask(token, passwords)
        except TimeoutError:
            return "under-way"
        except (OSError, ValueError, KeyError, TypeError) as problem:
            log.error("the quarantine does not answer: %s", problem)
            return "later"
