"""Says on standard error what is being done, how far it is and how long it took: in place on a terminal, line by
line elsewhere. Standard output belongs to the verdict."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

Tell = Callable[[str], None]


@contextmanager
def step(what: str) -> Iterator[Tell]:
    """Announce `what`; the yielded function shows how far it is. Its time is printed at the end."""
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    width = shutil.get_terminal_size().columns
    last = started

    def tell(state: str) -> None:
        nonlocal last
        now = time.monotonic()
        if terminal:
            _write(f"\r\033[K    ... {what}: {state}"[: width + 4])
        elif now - last > 5:
            last = now
            _write(f"    ... {what}: {state}\n")

    if terminal:
        tell("")
    yield tell
    _write(f"{chr(13) + chr(27) + '[K' if terminal else ''}{time.monotonic() - started:6.1f} s  {what}\n")


def note(text: str) -> None:
    _write(f"          {text}\n")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


@contextmanager
def drain(stream: IO[str] | None) -> Iterator[list[str]]:
    """Read `stream` to its end in the background, so that its writer never waits for us; yields the lines."""
    lines: list[str] = []
    assert stream is not None  # noqa: S101  (the caller opened it as a pipe)
    reader = threading.Thread(target=lambda: lines.extend(stream), daemon=True)
    reader.start()
    yield lines
    reader.join()
