"""`python -m todoku.web`: the page in the foreground, for systemd and supervisord alike.

Started as root it opens its port and the certificate, imports everything, and becomes its user for good before it reads
the first octet of a stranger's.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import pkgutil
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from todoku.delivery.privileges import CannotBecome, drop
from todoku.protect import object_store
from todoku.protect.letters import sender
from todoku.protect.shelf import Shelf
from todoku.settings import DEFAULT_PATH, Settings, SettingsError, load
from todoku.web.application import application
from todoku.web.attachments import Desk
from todoku.web.renewed import keep, take_in

log = logging.getLogger("todoku.web")

NAME = "todoku-web"  # what ps(1) shows, and how `todoku apply` recognises it
# Where the host keeps the one that it makes itself.
CERTIFICATE, KEY = Path("/etc/todoku/tls/self-signed.pem"), Path("/etc/todoku/tls/self-signed.key")
MANAGED = Path("/etc/todoku/tls/certificate.pem")  # made by an authority; the key is in it
_AT_ONCE = 1000  # connections
_PATIENCE = 15.0  # seconds until a new connection has asked for something
_TIDY_EVERY = 600.0
_LAZY = (
    "anyio",
    "asyncio",
    "concurrent",
    "email",
    "encodings",
    "h11",
    "jinja2",
    "starlette",
    "todoku.protect",
    "uvicorn",
)
_NOT_HERE = ("mbcs", "oem", "cp65001", "__main__", "testclient", "windows_events", "windows_utils")


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 1 cannot work, 2 wrong usage or settings."""
    options = _parser().parse_args(arguments)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=stamp + "todoku-web[%(process)d] %(levelname)s: %(message)s",
    )
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    try:
        settings = load(options.config)
        listener = listen(settings)
        desk = Desk(Shelf(options.shelf, lambda: object_store.of(settings)), sender(settings))
        object_store.prepare(settings)
        server = _server(desk, settings)
        renewed = keep(*certificate(settings), close=[listener.fileno()])
        if os.geteuid() == 0:
            _import_everything()
            drop(options.user)
        if options.pid_file:
            options.pid_file.write_text(f"{os.getpid()}\n")
        asyncio.run(_serve(server, desk, listener, renewed))
    except (SettingsError, CannotBecome, OSError) as error:
        print(f"todoku-web: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    return 0


def listen(settings: Settings) -> socket.socket:
    """At every address of the machine, IPv6 where there is one. OSError when the port is taken."""
    port = settings.protect.page_port
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", port), family=family, backlog=512, dualstack_ipv6=both)


class _Patient(H11Protocol):
    """A connection that asks for nothing is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(_PATIENCE, self._look)

    def _look(self) -> None:
        transport: asyncio.Transport | None = self.transport  # gone, or with a request
        if transport is not None and getattr(self, "cycle", None) is None and not transport.is_closing():
            transport.close()


def _server(desk: Desk, settings: Settings) -> uvicorn.Server:
    config = uvicorn.Config(
        application(desk),
        http=_Patient,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,  # links are in it
        proxy_headers=False,
        server_header=False,
        date_header=True,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=20,
        h11_max_incomplete_event_size=16 * 1024,
        ssl_certfile=certificate(settings)[0],
        ssl_keyfile=certificate(settings)[1],
    )
    config.load()  # reads the certificate and its key
    return uvicorn.Server(config)


def certificate(settings: Settings) -> tuple[Path, Path]:
    """The files of the certificate and of its key, as the host lays them down."""
    if settings.tls.kind in ("acme", "own-ca"):
        return MANAGED, MANAGED
    return settings.tls.certificate or CERTIFICATE, settings.tls.key or KEY


async def _serve(server: uvicorn.Server, desk: Desk, listener: socket.socket, renewed: int) -> None:
    loop = asyncio.get_running_loop()
    beside = [loop.create_task(_tidy(desk))]
    if server.config.ssl is not None:
        beside.append(loop.create_task(take_in(renewed, server.config.ssl)))
    await server.serve([listener])
    for task in beside:
        task.cancel()


async def _tidy(desk: Desk) -> None:
    while True:
        try:
            if gone := await asyncio.to_thread(desk.tidy):
                log.info("%d files are over and removed", gone)
        except Exception:
            log.exception("what is over cannot be removed now")
        await asyncio.sleep(_TIDY_EVERY)


def _import_everything() -> None:
    """All that may be imported later on: the Python that runs this may lie where only root may enter."""
    for name in _LAZY:
        with suppress(ImportError):
            package = importlib.import_module(name)
            path: Any = getattr(package, "__path__", ())
            for found in pkgutil.walk_packages(path, f"{name}.", onerror=lambda _: None):
                if not found.name.endswith(_NOT_HERE):
                    with suppress(ImportError, RuntimeError):
                        importlib.import_module(found.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="todoku-web", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument("--user", default=NAME, help="whom to become when started as root (%(default)s)")
    parser.add_argument("--shelf", type=Path, default=Shelf().root, help="where the files lie (%(default)s)")
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the process")
    return parser


if __name__ == "__main__":
    sys.exit(main())
