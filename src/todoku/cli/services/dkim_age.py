"""Tells the postmaster, through `delivery.alarms`, when a domain's key has signed for longer than Oracle advises.

A part of `relay_watch`, which has the key to the cloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from todoku.delivery import alarms

if TYPE_CHECKING:
    from todoku.cloud.client import Cloud
    from todoku.settings import Settings

SOURCE = "dkim"
EVERY = 86_400.0  # seconds: a key grows old slowly


def look(
    settings: Settings,
    client: Callable[[], Cloud],
    folder: Path = alarms.FOLDER,
    elapsed: Callable[[], float] = time.monotonic,
) -> Callable[[], None]:
    """To be called from time to time: asks the cloud once a day, each time by a new client, as one remembers what it
    has seen. Raises CloudError, OSError."""
    asked = float("-inf")

    def once_a_day() -> None:
        nonlocal asked
        if elapsed() - asked >= EVERY:
            alarms.report(SOURCE, old_keys(settings, client()), folder)
            asked = elapsed()  # only now: what failed is asked again

    return once_a_day


def old_keys(settings: Settings, client: Cloud) -> list[alarms.Alarm]:
    """An alarm for each domain whose key should be replaced. Raises CloudError."""
    from todoku.cloud import dkim_rotation

    return [
        alarms.Alarm(
            domain.name,
            f"the DKIM key {key.selector} of {domain.name} is {key.age_days} days old",
            key.advice,
        )
        for domain in settings.domains
        for key in dkim_rotation.status(domain.name, client)
        if key.role == "signs" and key.advice
    ]
