"""What can be seen of this machine without any rights: which services run, how full the disks are, until when the
certificate that is served is good."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cryptography import x509

# Where mail, the ledger and the logs are.
PLACES = ("/", "/var/lib/todoku", "/var/spool/postfix", "/var/log")
_SUBMISSIONS = ("127.0.0.1", 465)
_SECONDS = 5.0


def running(processes: Iterable[str], proc: Path = Path("/proc")) -> dict[str, bool]:
    """For each name of a process (15 characters at most) whether there is one that is alive. Raises OSError."""
    alive = set()
    for entry in os.scandir(proc):
        if entry.name.isdecimal():
            with suppress(OSError):
                name, _, rest = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")
                if rest.split()[0] not in "ZX":
                    alive.add(name.partition("(")[2])
    return {process: process in alive for process in processes}


def disks(places: Iterable[str] = PLACES) -> dict[str, float]:
    """The free share (0 to 1) of each file system that one of `places` is on, by the first of them."""
    found: dict[int, tuple[str, float]] = {}
    for place in places:
        with suppress(OSError):
            device = Path(place).stat().st_dev
            if device not in found:
                usage = shutil.disk_usage(place)
                # Of what others than root may use, as they would be the first to get nothing.
                found[device] = place, usage.free / usage.total if usage.total else 1.0
    return dict(found.values())


def certificate_ends(server: tuple[str, int] = _SUBMISSIONS) -> float | None:
    """When the certificate that mail programs are shown ends, in seconds since 1970; None when nobody answers.

    Asked of the server, and not read from the file: a new file that nobody took in is no new certificate. It is looked
    at, not believed.
    """
    try:
        shown = ssl.get_server_certificate(server, timeout=_SECONDS)
        return x509.load_pem_x509_certificate(shown.encode()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return None
