"""What calculates fast where it is installed (the extra `protect`). Without it the same comes out, more slowly."""

from __future__ import annotations

import binascii
import functools
import importlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LINE = 78  # octets: 76 characters of base64 and CRLF, as nearly every program writes it (RFC 2045 6.8)


def prepare() -> None:
    """Load it: once, before a process gives up its right to read files."""
    numpy()
    base64_decoder()


@functools.cache
def numpy() -> Any:
    """The module; None where it is not installed."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # it would make threads that nothing here uses
    with suppress(ImportError):
        return importlib.import_module("numpy")
    return None


@functools.cache
def base64_decoder() -> Callable[[bytes], bytes]:
    """For whole quantums and nothing else. Raises binascii.Error."""
    try:
        import pybase64
    except ImportError:
        return binascii.a2b_base64
    return functools.partial(pybase64.b64decode, validate=True)


def base64_lines(octets: bytes) -> bytes | None:
    """What lines of 76 characters and CRLF have decoded; None when they are anything else, or nothing fast is here."""
    if numpy() is None or base64_decoder() is binascii.a2b_base64 or not octets or len(octets) % LINE:
        return None
    lines = numpy().frombuffer(octets, "u1").reshape(-1, LINE)
    if not ((lines[:, -2] == 13).all() and (lines[:, -1] == 10).all()):
        return None
    try:
        return base64_decoder()(lines[:, :-2].tobytes())
    except binascii.Error:
        return None
