"""The machine's own firewall, as settings."""

from __future__ import annotations

from pydantic import Field

from todoku.settings.base import Frozen


class Firewall(Frozen):
    """What is let in to this machine by its own packet filter."""

    manage: bool = Field(
        True,
        description="Whether `todoku apply` lets mail in where this machine's own firewall (iptables, firewalld) keeps "
        "it out: port 25 for everybody; 587, 465 and 993 for clients.networks. Nothing else is changed.",
        examples=[True],
    )
