"""What a page is sent: small forms, at once."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from starlette.requests import Request

_LARGEST_FORM = 4096  # bytes
_FORM_SECONDS = 10.0


async def small_form(request: Request) -> dict[str, str]:
    """What was sent, if it is a small form, and sent at once."""
    raw = b""
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            async for piece in request.stream():
                raw += piece
                if len(raw) > _LARGEST_FORM:
                    return {}
    except TimeoutError:
        return {}
    found = parse_qs(raw.decode("ascii", "replace"), max_num_fields=10) if raw.count(b"&") < 10 else {}
    return {name: values[0] for name, values in found.items()}
