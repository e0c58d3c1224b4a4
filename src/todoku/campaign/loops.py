"""The event loop of what sends: uvloop where it is installed; asyncio's own otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """For `asyncio.Runner`."""
    try:
        import uvloop  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made
