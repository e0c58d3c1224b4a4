"""Figures for a monitoring system that fetches them (Prometheus)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

from pydantic import Field

from todoku.settings import ports
from todoku.settings.base import Frozen
from todoku.settings.values import IpAddress


class Metrics(Frozen):
    """Figures about mail, for Prometheus to fetch from this machine. Without this table nobody serves any."""

    address: IpAddress = Field(
        ip_address("127.0.0.1"),
        description="The address to serve them on. There is no password: on another address than this machine's own, "
        "whoever can connect sees how much mail there is.",
        examples=["127.0.0.1"],
    )
    port: Annotated[int, Field(ge=1024, le=65535)] = Field(
        ports.METRICS,
        description="The port; they are at http://ADDRESS:PORT/metrics.",
        examples=[ports.METRICS],
    )
