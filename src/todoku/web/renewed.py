"""A renewed certificate is taken in while the page runs, without anybody's download being cut off.

The page has given up its rights and cannot read the key. So before it does, it splits off a small process that keeps
them: it looks at the two files, and when they have changed gives the page what is in them, by a pipe. It reads nothing
from anybody but those files, and ends when the page does. New connections get the new certificate; those that are there
go on as they are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import ssl
import struct
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("todoku.web")

LOOK_EVERY = 10.0  # seconds
_NAME = "todoku-web-tls"  # what ps(1) shows
_LARGEST = 1024 * 1024  # bytes of a file
_LENGTHS = struct.Struct("!II")
_MEMORY = Path("/dev/shm")  # noqa: S108 - for a moment, readable by the page alone


def keep(certificate: Path, key: Path, close: Sequence[int], every: float = LOOK_EVERY) -> int:
    """Starts the process; the end of the pipe at which the page gets to know. `close`: descriptors that are not its
    business."""
    ours, theirs = os.pipe()
    before = _stamp(certificate, key)
    if os.fork():
        os.close(theirs)
        os.set_blocking(ours, False)
        return ours
    try:
        os.close(ours)
        for descriptor in close:
            os.close(descriptor)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        with suppress(OSError):
            Path("/proc/self/comm").write_text(_NAME)
        _look(certificate, key, theirs, before, every)
    finally:
        os._exit(0)


def _look(certificate: Path, key: Path, pipe: int, before: object, every: float) -> None:
    """Until the page is gone, which shows at the pipe (poll(2), POLLERR)."""
    poll = select.poll()
    poll.register(pipe, 0)
    while not poll.poll(every * 1000):
        now = _stamp(certificate, key)
        if now is None or now == before:
            continue
        with suppress(OSError):
            first, second = certificate.read_bytes(), key.read_bytes()
            if max(len(first), len(second)) <= _LARGEST and _stamp(certificate, key) == now:
                before = now
                _write(pipe, _LENGTHS.pack(len(first), len(second)) + first + second)


def _stamp(*paths: Path) -> object:
    """Differs when one of them was changed or replaced; None while one is not there."""
    try:
        found = [path.stat() for path in paths]
    except OSError:
        return None
    return [(each.st_dev, each.st_ino, each.st_mtime_ns, each.st_size) for each in found]


def _write(pipe: int, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(pipe, rest) :]


async def take_in(pipe: int, context: ssl.SSLContext) -> None:
    """For the life of the page. A certificate that is of no use is said, and the one before stays."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb")
    )
    try:
        while True:
            first, second = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
            certificate, key = await reader.readexactly(first), await reader.readexactly(second)
            try:
                load(context, certificate, key)
            except (OSError, ssl.SSLError) as problem:
                log.error("the new certificate is not taken in, the one before stays: %s", problem)
            else:
                log.info("the new certificate is taken in")
    except asyncio.IncompleteReadError:
        log.warning("who looks for a new certificate has ended: the next one is taken in after a restart")
    finally:
        transport.close()


def load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Both in PEM, which OpenSSL reads from files only. Raises ssl.SSLError, and then nothing has changed; OSError."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
        paths = Path(folder, "certificate"), Path(folder, "key")
        for path, content in zip(paths, (certificate, key), strict=True):
            path.touch(0o600)
            path.write_bytes(content)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*paths)  # whether they fit each other
        context.load_cert_chain(*paths)
