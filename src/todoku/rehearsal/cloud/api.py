"""One call of the API: who asks for what, with which values; and the answers that lists give in pages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .entries import Entry
from .errors import ApiError, invalid, missing
from .http_server import Answer, Request

PAGE, LONGEST_PAGE = 100, 1000  # the default is not published; a short one makes clients page


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed: a user, or an instance."""

    kind: str  # "user", "instance"
    id: str
    compartment: str = ""  # of an instance


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a handler answers."""

    request: Request
    principal: Principal
    region: str
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str, *, required: bool = True, longest: int = 4000) -> str:
        """A string of the body. Raises `ApiError` 400."""
        value = self.body.get(name)
        if value is None or value == "":
            if required:
                raise missing(name)
            return ""
        if not isinstance(value, str) or len(value) > longest:
            raise invalid(f"{name} has to be a string of at most {longest} characters")
        return value

    def parameter(self, name: str) -> str:
        """A query parameter that has to be there. Raises `ApiError` 400."""
        if not self.query.get(name):
            raise missing(name)
        return self.query[name]

    def header(self, name: str) -> str | None:
        """A field of the head."""
        return self.request.headers.get(name)


Handler = Callable[[Call], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation, named as the SDK's method."""

    method: str
    pattern: str  # "/dkims/{id}"
    operation: str
    handler: Handler
    writes: bool = False

    def match(self, method: str, segments: Sequence[str]) -> dict[str, str] | None:
        """The values of the pattern's names, when this is the operation."""
        parts = self.pattern.strip("/").split("/")
        if method != self.method or len(parts) != len(segments):
            return None
        values = {}
        for part, segment in zip(parts, segments, strict=True):
            if part.startswith("{"):
                values[part.strip("{}")] = segment
            elif part != segment:
                return None
        return values


def read_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object; nothing is an empty one. Raises `ApiError` 400."""
    if not request.body:
        return {}
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        raise ApiError(400, "CannotParseRequest", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise ApiError(400, "CannotParseRequest", "the body has to be a JSON object")
    return body


def answer(entry: Entry, content: Any, status: int = 200, **headers: str) -> Answer:
    """An entry with its ETag."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, content, {"etag": entry.etag, **named})


def paged(call: Call, items: Sequence[Any], *, bare: bool = True) -> Answer:
    """One page of `items`, and where the next one begins (opc-next-page)."""
    limit = _limit(call.query.get("limit"))
    start = _start(call.query.get("page"), _list_id(call))
    headers = {"opc-total-items": str(len(items))}
    if start + limit < len(items):
        token = f"{_list_id(call)}:{start + limit}"
        headers["opc-next-page"] = base64.urlsafe_b64encode(token.encode()).decode()
    chosen = list(items[start : start + limit])
    return Answer(200, chosen if bare else {"items": chosen}, headers)


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LONGEST_PAGE:
        raise invalid(f"limit has to be a number from 1 to {LONGEST_PAGE}, not {text}")
    return int(text)


def _list_id(call: Call) -> str:
    """A page belongs to the list that it was given for."""
    filters = sorted((k, v) for k, v in call.query.items() if k not in ("page", "limit"))
    text = json.dumps([call.request.segments, filters])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _start(token: str | None, list_id: str) -> int:
    if token is None:
        return 0
    try:
        owner, _, start = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        if owner == list_id:
            return int(start)
    except (ValueError, binascii.Error):
        pass
    raise invalid("page is not one that this list gave out")


def select(
    call: Call, shown: Sequence[dict[str, Any]], filters: dict[str, str], keys: dict[str, str], default: str
) -> list[dict[str, Any]]:
    """Filter by query parameter -> field, and sort by sortBy -> field ("-" before it: newest first)."""
    for parameter, name in filters.items():
        wanted = call.query.get(parameter)
        if wanted is not None:
            shown = [item for item in shown if str(item.get(name, "")).lower() == wanted.lower()]
    by = call.query.get("sortBy", default).upper()
    if by not in keys:
        raise invalid(f"sortBy has to be one of {', '.join(keys)}, not {by}")
    order = call.query.get("sortOrder", "DESC" if keys[by].startswith("time") else "ASC").upper()
    if order not in ("ASC", "DESC"):
        raise invalid(f"sortOrder has to be ASC or DESC, not {order}")
    return sorted(shown, key=lambda item: str(item.get(keys[by]) or "").lower(), reverse=order == "DESC")
