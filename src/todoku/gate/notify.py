"""systemd's readiness protocol (sd_notify(3)): one datagram to the socket that $NOTIFY_SOCKET names, if any."""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto("\n".join(assignments).encode(), "\0" + path[1:] if path.startswith("@") else path)


def watchdog_interval() -> float | None:
    """Seconds between signs of life: half of what systemd allows; None without a watchdog."""
    allowed = os.environ.get("WATCHDOG_USEC")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(allowed) / 2_000_000 if allowed and for_us else None
