"""What calculates fast where it is installed (the extra `protect`). Without it the same comes out, more slowly."""

from __future__ import annotations

import binascii
import functools
import importlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any


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
