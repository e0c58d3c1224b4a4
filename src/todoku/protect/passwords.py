"""Passwords that people read out on the telephone: from the system's random numbers, without look-alikes."""

from __future__ import annotations

import secrets

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no 0 o, no 1 i l
_GROUPS, _EACH = 4, 4  # 16 of 31 characters: 79 bits


def new() -> str:
    """As "k3xq-9vha-tmc7-w2rz"."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(_EACH)) for _ in range(_GROUPS))
