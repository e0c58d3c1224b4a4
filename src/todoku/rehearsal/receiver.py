# ruff: noqa: ARG002 - the hooks of a session get more than each of them needs
"""A mailbox provider: takes mail for its domain on port 25, judges it, and keeps it as files people can read.

`N.eml` is the message exactly as received, `N.json` beside it the judgement (one pair for each recipient),
N from 1 on. Both appear at once and whole, the judgement last, so whoever finds N.json finds everything.
Local parts that begin with "unknown" do not exist, "full" are over quota, "busy" are deferred twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from todoku.rehearsal.internet.lookups import Resolver
from todoku.rehearsal.judge import judge
from todoku.rehearsal.smtp.server import Server
from todoku.rehearsal.smtp.session import Bounds, Listen, Reply, Session

SIZE = 25 * 1024 * 1024


class Inbox:
    """The folder of one provider."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = threading.Lock()
        self._last = max((int(path.stem) for path in folder.glob("*.eml") if path.stem.isdigit()), default=0)

    def keep(self, message: bytes, judgement: dict[str, object]) -> int:
        """Write both files; returns N."""
        with self._lock:
            self._last += 1
            number = self._last
        self._write(f"{number}.eml", message)
        self._write(f"{number}.json", json.dumps(judgement, indent=1, ensure_ascii=False).encode() + b"\n")
        return number

    def _write(self, name: str, content: bytes) -> None:
        temporary = self.folder / f".{name}.part"  # a glob for *.json or *.eml has hidden files too
        temporary.write_bytes(content)
        temporary.replace(self.folder / name)


class Provider:
    """One provider: its domain, its inbox, its listeners."""

    def __init__(
        self,
        domain: str,
        hostname: str,
        listens: Sequence[Listen],
        tls: ssl.SSLContext,
        inbox: Path,
        resolver: Resolver,
        bounds: Bounds | None = None,
    ) -> None:
        self.domain, self.hostname, self.resolver = domain, hostname, resolver
        self.inbox = Inbox(inbox)
        self.busy: Counter[str] = Counter()  # tries so far
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self.server = Server(
            f"mail for {domain}", listens, lambda: ProviderSession(self), tls=tls, bounds=bounds
        )

    async def start(self) -> None:
        """Listen; raises `PortTaken`."""
        await self.server.start()

    async def stop(self) -> None:
        """Hang up."""
        await self.server.stop()

    def take(self, message: bytes, mail_from: str, recipients: Sequence[str], session: Session) -> None:
        """Judge and keep; blocks for as long as the look-ups take."""
        peer, helo, tls = session.peer.ip, session.helo, session.tls
        for recipient in recipients:
            judgement = judge(message, mail_from, recipient, peer, helo, tls, self.resolver)
            self.inbox.keep(message, judgement.as_dict())


class ProviderSession(Session):
    """One client of a provider."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider.hostname, SIZE)
        self.provider = provider

    async def mail(self, address: str, parameters: dict[str, str]) -> Reply:
        """Anybody may write; a size that will not fit is refused at once (RFC 1870)."""
        size = parameters.get("SIZE", "0")
        if not size.isascii() or not size.isdigit():
            return Reply.of("501 5.5.4 SIZE is not a number")
        if int(size[:12]) > self.message_limit:
            return self.oversize()
        return Reply.of("250 2.1.0 Ok")

    async def rcpt(self, address: str, parameters: dict[str, str]) -> Reply:
        """Who exists, who is over quota, who is busy."""
        local, _, domain = address.lower().rpartition("@")
        if domain != self.provider.domain:
            return Reply.of(f"550 5.7.1 {address}: relaying denied")
        if local.startswith("unknown") or not local:
            return Reply.of(f"550 5.1.1 {address}: no such user here")
        if local.startswith("full"):
            return Reply.of(f"552 5.2.2 {address}: mailbox is over quota")
        if local.startswith("busy"):
            self.provider.busy[local] += 1
            if self.provider.busy[local] <= 2:
                return Reply.of(f"450 4.2.1 {address}: receiving mail too quickly, try again later")
        return Reply.of("250 2.1.5 Ok")

    async def message(self, content: bytes) -> Reply:
        """Judged before it is acknowledged, so that what was acknowledged can be seen."""
        arguments = content, self.sender or "", tuple(self.recipients), self
        try:
            await asyncio.to_thread(self.provider.take, *arguments)
        except OSError as problem:
            return Reply.of(f"452 4.3.1 {os.strerror(problem.errno or 0)}")
        return Reply.of("250 2.0.0 Ok")
