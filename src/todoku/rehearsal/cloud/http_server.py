"""A small HTTP/1.1 server on asyncio (RFC 9110, 9112): what the SDK and the command line need, and no more.

Persistent connections and bodies with a Content-Length. Everything has a bound: head, fields, body, silence,
connections. What is not understood is refused (RFC 9112 11.2: never guess where a message ends).
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

from todoku.rehearsal.smtp.server import PortTaken
from todoku.rehearsal.smtp.session import Listen

HEAD, FIELDS, BODY = 32_768, 100, 1_000_000  # octets, fields, octets
IDLE_SECONDS, CONNECTIONS = 60.0, 200

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_TARGET = re.compile(r"/[\x21-\x7e]*")  # origin-form only (RFC 9112 3.2.1)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class BadRequest(Exception):
    """Not a request that this server understands."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Cut(Exception):
    """The connection is to break now, without an answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; field names in lower case."""

    method: str
    target: str  # as on the wire: signatures cover it
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def segments(self) -> tuple[str, ...]:
        """The path in its parts, decoded."""
        return tuple(unquote(part) for part in self.target.partition("?")[0].strip("/").split("/"))

    @property
    def query(self) -> dict[str, str]:
        """The parameters; the last of each name."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def host(self) -> str:
        """The host name that was asked for, without the port."""
        return re.sub(r":\d*$", "", self.headers.get("host", "")).lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, JSON content (or text, or None for no body) and further header fields."""

    status: int = 200
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def octets(self, *, keep: bool, head_only: bool = False) -> bytes:
        """As on the wire."""
        text = self.content if isinstance(self.content, str) else json.dumps(self.content)
        body = b"" if self.content is None else text.encode()
        kind = "text/plain" if isinstance(self.content, str) else "application/json"
        lines = [f"HTTP/1.1 {self.status} {_reason(self.status)}"]
        if body:
            lines.append(f"Content-Type: {kind}")
        if self.status != HTTPStatus.NO_CONTENT:  # RFC 9110 8.6: not with 204
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"Connection: {'keep-alive' if keep else 'close'}")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        return head if head_only else head + body


Handle = Callable[[Request], Awaitable[Answer]]


def parse_head(head: bytes) -> Request:
    """Request line and fields, with the final empty line. Raises `BadRequest` and nothing else."""
    try:
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = first.split(" ")
    except ValueError as problem:
        raise BadRequest("the first line has to be METHOD /path HTTP/1.1") from problem
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise BadRequest("the first line has to be METHOD /path HTTP/1.1")
    if version != "HTTP/1.1":
        raise BadRequest("this server speaks HTTP/1.1", 505)
    if len(lines) > FIELDS:
        raise BadRequest(f"more than {FIELDS} header fields", 431)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest(f"not a header field: {line[:60]!r}")
        if name in headers and name in ("host", "content-length"):
            raise BadRequest(f"{name} is there twice")
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    if "host" not in headers:
        raise BadRequest("Host is missing")
    return Request(method, target, headers)


def body_length(request: Request) -> int:
    """How many octets follow the head. Raises `BadRequest`."""
    if "transfer-encoding" in request.headers:
        raise BadRequest("send the body with a Content-Length", 411)
    length = request.headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,12}", length):
        raise BadRequest("Content-Length has to be a number")
    if int(length) > BODY:
        raise BadRequest(f"the body has to be shorter than {BODY} octets", 413)
    return int(length)


class HttpServer:
    """Listens, reads requests, and writes what `handle` answers."""

    def __init__(self, name: str, listen: Listen, tls: ssl.SSLContext | None, handle: Handle) -> None:
        self.name, self.listen, self._tls, self._handle = name, listen, tls, handle
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; raises `PortTaken`."""
        host, port = self.listen.host, self.listen.port
        try:
            self._server = await asyncio.start_server(self._serve, host, port, ssl=self._tls, limit=HEAD)
        except OSError as problem:
            raise PortTaken(
                f"cannot listen on {host} port {port} ({self.name}): {problem.strerror}; stop what listens "
                "there, or add the address to an interface"
            ) from problem
        self.listen = Listen(host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and hang up."""
        if self._server:
            self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except Cut:
            writer.transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the caller went away: there is nobody to tell
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection stays."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                request = await _read(reader)
        except BadRequest as problem:
            wrong = {"code": "CannotParseRequest", "message": str(problem)}
            writer.write(Answer(problem.status, wrong).octets(keep=False))
            await writer.drain()
            return False
        answer = await self._handle(request)
        keep = request.headers.get("connection", "").lower() != "close"
        writer.write(answer.octets(keep=keep, head_only=request.method == "HEAD"))
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()
        return keep


async def _read(reader: asyncio.StreamReader) -> Request:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as problem:
        raise BadRequest(f"the head has to be shorter than {HEAD} octets", 431) from problem
    request = parse_head(head)
    body = await reader.readexactly(body_length(request))
    return Request(request.method, request.target, request.headers, body)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
